"""What a start saves: the share of scratch's training that it does without.

All runs of a column train the same network on batches of the same size, so steps stand for FLOPs, and for wall time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.transfer.training import Curve

#: Lengths of the full short schedules, as shares of the whole one, shortest first.
SHARES = (0.10, 0.15, 0.25, 0.50, 0.75)


@dataclass(frozen=True, slots=True)
class Row:
    """One start in one column, at its best learning rate.

    Attributes:
        name: of the start. control: whether it is a yardstick. rate: learning rate of its best run.
        initial, final: validation loss at the start and after the whole schedule, in nats.
        mid_saved: share of the steps saved, read off the whole schedule's curve; None: it never gets there.
        short_saved: the same by full short schedules; None: not even by the longest.
        mid_saved_control, short_saved_control: against the strictest control instead of scratch.
    """

    name: str
    control: bool
    rate: float
    initial: float
    final: float
    mid_saved: float | None
    short_saved: float | None
    mid_saved_control: float | None
    short_saved_control: float | None


def reached(curve: Curve, loss: float) -> float | None:
    """Share of the schedule after which a curve is at ``loss`` for good or for the first time, between two readings.

    Validation losses fall from reading to reading but for noise; the first crossing is interpolated linearly.
    """
    if curve.losses[0] <= loss:
        return 0.0
    for before in range(len(curve.steps) - 1):
        a, b = curve.losses[before], curve.losses[before + 1]
        if b <= loss:
            step = curve.steps[before] + (curve.steps[before + 1] - curve.steps[before]) * (a - loss) / (a - b)
            return step / curve.steps[-1]
    return None


def saved_mid(curve: Curve, loss: float) -> float | None:
    """1 - share of the schedule needed to reach ``loss``."""
    share = reached(curve, loss)
    return None if share is None else 1 - share


def saved_short(shorts: Mapping[float, Curve], loss: float) -> float | None:
    """1 - the shortest schedule whose end is at ``loss`` or below."""
    for share in sorted(shorts):
        if shorts[share].losses[-1] <= loss:
            return 1 - share
    return None


def mean_and_spread(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Mean, and half the distance between the largest and the smallest; None where a run never got there."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return sum(known) / len(known), (max(known) - min(known)) / 2

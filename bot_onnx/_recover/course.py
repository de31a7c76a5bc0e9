"""The course of a training: its losses, those on samples held out, when it ends early, and the best weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot_onnx._recover.dataset import Indices, consecutive
from bot_onnx._recover.types import Settings
from bot_onnx.errors import RecoverError

MOST_VALIDATED = 256  #: samples of those held out


@dataclass(slots=True)
class Course:
    """What was seen so far.

    Attributes:
        losses: of every step.
        validated: steps done, and the loss on samples held out.
        best: copies of the weights at the lowest of these, by name; None where they are not kept.
    """

    losses: list[float] = field(default_factory=list)
    validated: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    def is_due(self, settings: Settings) -> bool:
        """Whether the loss on samples held out is measured now: every so many steps, and after the last one."""
        every, done = settings.validate_every, len(self.losses)
        return bool(every) and (done % every == 0 or done == settings.steps)

    def add(self, loss: float, weights: Mapping[str, Any] | None) -> None:
        """Take up a loss on samples held out.

        Args:
            loss: of the present weights.
            weights: these, where the best are kept.
        """
        step = len(self.losses)
        if weights is not None and all(loss < other for _, other in self.validated):
            self.best = {name: weight.detach().clone() for name, weight in weights.items()}
        self.validated.append((step, loss))

    @property
    def lowest(self) -> int:
        """Place of the first of the lowest among :attr:`validated`."""
        losses = [loss for _, loss in self.validated]
        return losses.index(min(losses))

    def is_over(self, settings: Settings) -> bool:
        """Whether the loss on samples held out has not improved as often as is waited for."""
        if not settings.patience or not self.validated:
            return False
        return len(self.validated) - 1 - self.lowest >= settings.patience

    def state(self) -> dict[str, Any]:
        """All of it, to be saved."""
        return {"losses": self.losses, "validated": [list(entry) for entry in self.validated], "best": self.best}


def restored(state: Mapping[str, Any], weights: Mapping[str, Any] | None) -> Course:
    """The course that was saved.

    Args:
        state: that :meth:`Course.state` is in.
        weights: of the student, where the best are kept.

    Raises:
        ValueError, KeyError, TypeError: something is missing, or has another shape.
    """
    losses = [float(loss) for loss in state["losses"]]
    validated = [(int(step), float(loss)) for step, loss in state["validated"]]
    best = state["best"]
    if weights is not None and validated:
        for name, weight in weights.items():
            if best[name].shape != weight.shape:
                raise ValueError(f"{tuple(best[name].shape)} for {tuple(weight.shape)}")
    return Course(losses, validated, None if weights is None else best)


def check_course(settings: Settings) -> None:
    """Refuse what would not be measured.

    Raises:
        RecoverError: something is to depend on the loss on samples held out, which is not measured.
    """
    asked = [name for name, given in (("patience", settings.patience), ("keep_best", settings.keep_best)) if given]
    if asked and not settings.validate_every:
        option = asked[0].replace("_", "-")
        raise RecoverError(f"--{option} goes by the loss on samples held out: say how often with --validate-every")
    if settings.accumulate < 1 or settings.validate_every < 0 or settings.patience < 0:
        raise RecoverError("accumulate must be at least 1, validate_every and patience at least 0")


def validation_batches(held_out: Indices, batch: int, chunk: int | None) -> Sequence[Indices]:
    """Samples on which the loss is measured: the first of those held out, in whole batches where there is one."""
    batches = consecutive(held_out[: max(MOST_VALIDATED, chunk or 0)], batch, chunk)
    return [chosen for chosen in batches if len(chosen) == len(batches[0])]


def pieces(chosen: Indices, settings: Settings, chunk: int | None) -> list[Indices]:
    """The samples of a step, cut into as many batches as its gradient is the sum of.

    Args:
        chosen: indices; a multiple of ``chunk``, where that is given.
        settings: of the training.
        chunk: samples that the model takes at a time; None: any number.
    """
    unit = chunk or 1
    units = len(chosen) // unit
    count = min(settings.accumulate, max(1, units // max(1, settings.batch // unit)))
    bounds = [units * place // count * unit for place in range(count + 1)]
    return [chosen[start:end] for start, end in itertools.pairwise(bounds)]

"""How far outputs are from a source's: are they what was promised, and how close are they in any case.

Where an axis was resized the source's output is first brought to the new size by the axis' operator, so that like is
held against like. Whether an output is what was promised is decided by its largest difference alone; cosines and
divergences are for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._runs.fills import FAR, LEAST, least_fill
from bot_onnx._surgery.provenance import Axes
from bot_onnx._verify.carrying import Carrier, Floats, Mismatch, comparable
from bot_onnx._verify.outputs import is_float
from bot_onnx._verify.types import OutputComparison

_BLOCK = 1 << 20  # numbers compared at a time
_WHOLE = 1e-6


def cosine_sum(new: Floats, source: Floats) -> float:
    """Sum over rows of the cosine of the angle between two arrays ``[rows, n]``; two zero rows agree, one does not."""
    scale = np.maximum(np.abs(new).max(axis=1, initial=0.0), np.abs(source).max(axis=1, initial=0.0))
    unit = np.where(scale > 0, scale, 1.0)[:, None]  # large values must not overflow when squared
    new, source = new / unit, source / unit
    lengths = np.linalg.norm(new, axis=1) * np.linalg.norm(source, axis=1)
    dots = np.einsum("ij,ij->i", new, source)
    both_zero = scale == 0
    return float(np.where(both_zero, 1.0, dots / np.where(lengths > 0, lengths, 1.0)).sum())


def divergence_sum(new: Floats, source: Floats) -> float:
    """Sum over rows of KL(source || new) in nats, for logits ``[rows, n]``.

    KL(p || q) = Σ p (log p - log q) with p, q the softmax of source and new (Kullback & Leibler 1951).
    """
    log_p, log_q = _log_softmax(source), _log_softmax(new)
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


@dataclass(frozen=True, slots=True)
class Way:
    """How a source's value is brought to the target's size.

    Attributes:
        carrier: the operators; None: nothing is known, so shapes must agree.
        axes: how the axes of the value change. factor: what it is multiplied by besides.
        tolerance: largest difference that is allowed, as a part of the source's largest value; None: no promise.
    """

    carrier: Carrier | None = None
    axes: Axes = ()
    factor: float = 1.0
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Both values at one size, and where they are finite; None: everywhere in both, for integers."""

    new: NDArray[Any]
    source: NDArray[Any]
    bad: NDArray[np.bool_] | None  # of new
    alike: bool


def compare(
    name: str,
    new: Sequence[NDArray[Any]],
    source: Sequence[NDArray[Any]],
    way: Way,
    *,
    logits: bool = False,
    least_scale: float = 0.0,
) -> OutputComparison:
    """Compare one output over all batches.

    Args:
        name: of the output.
        new, source: its arrays, one per batch.
        way: how the source's is brought to the new size, and what was promised.
        logits: the last axis holds logits, so that a divergence says something.
        least_scale: of the source's values, where all of them are smaller.

    Raises:
        Incomparable: there is no operator, or another basis.
        Mismatch: the shapes are not those that were planned.
    """
    pairs = [bring(left, right, way) for left, right in zip(new, source, strict=True)]
    exact = not all(is_float(array) for array in (*new, *source))
    if any(array.dtype.kind in "OUS" for array in (*new, *source)):
        differing = sum(int((pair.new != pair.source).sum()) for pair in pairs)
        return _told(name, new, way, exact, agrees=not differing, differing=differing, equal=_equal(pairs, differing))
    scale, fills = (_largest(pairs), None) if exact else _scales(pairs, least_scale)
    limit = (way.tolerance or 0.0) * scale
    cosine = difference = divergence = 0.0
    rows = differing = 0
    for a, b in (block for pair in pairs for block in _row_blocks(pair)):
        rows += len(a)
        divergence += divergence_sum(a, b) if logits and not exact else 0.0
        apart, a, b = (np.abs(a - b), a, b) if fills is None else fills.beside(a, b, scale)
        difference = max(difference, float(apart.max(initial=0.0)))
        differing += 0 if exact else int((apart > limit).sum())
        cosine += 0.0 if exact else cosine_sum(a, b)
    if exact:  # in their own type: float64 does not hold every integer
        differing = sum(int(_unequal(pair).sum()) for pair in pairs)
    alike = all(pair.alike for pair in pairs)
    return _told(
        name,
        new,
        way,
        exact,
        agrees=differing == 0 and alike,
        differing=differing,
        cosine=cosine / rows if rows and not exact else None,
        max_difference=difference,
        scale=scale,
        divergence=max(0.0, divergence / rows) if logits and rows and not exact else None,
        nonfinite=sum(0 if pair.bad is None else int(pair.bad.sum()) for pair in pairs),
        nonfinite_alike=alike,
        equal=_equal(pairs, differing) if exact else None,
    )


@dataclass(frozen=True, slots=True)
class _Fills:
    """Magnitudes of the smallest and the largest of what a mask filled in."""

    least: float
    largest: float

    def beside(self, new: Floats, source: Floats, scale: float) -> tuple[Floats, Floats, Floats]:
        """Differences, those of fills brought to the ``scale`` of the rest; and both values, zeros for the fills."""
        filled = np.abs(source) >= self.least
        apart = np.abs(new - source) * np.where(filled, scale / self.largest, 1.0)
        return apart, np.where(filled, 0, new), np.where(filled, 0, source)


def _scales(pairs: Sequence[Pair], least_scale: float) -> tuple[float, _Fills | None]:
    """Scale of the source's values, and the fills beside them, which it leaves out."""
    largest = _largest(pairs)
    least = least_fill(*(pair.source for pair in pairs)) if largest >= FAR else float("inf")
    if largest < least:
        return max(largest, least_scale), None
    return max(_largest(pairs, least), least_scale, LEAST), _Fills(least, largest)


def _largest(pairs: Sequence[Pair], below: float = float("inf")) -> float:
    found = 0.0
    for _, block in (block for pair in pairs for block in _row_blocks(pair)):
        magnitudes = np.abs(block)
        found = max(found, float(magnitudes.max(initial=0.0, where=magnitudes < below)))
    return found


def _equal(pairs: Sequence[Pair], differing: int) -> float | None:
    total = sum(pair.new.size for pair in pairs)
    return 1 - differing / total if total else None


def _unequal(pair: Pair) -> NDArray[np.bool_]:
    if pair.source.dtype.kind != "f":
        return np.asarray(pair.new != pair.source)
    return np.asarray(np.abs(pair.new - pair.source) > _WHOLE)  # carried along an axis: whole but for rounding


def _told(
    name: str, new: Sequence[NDArray[Any]], way: Way, exact: bool, *, agrees: bool, differing: int, **measured: Any
) -> OutputComparison:
    promised = way.tolerance is not None
    blank = dict.fromkeys(("cosine", "max_difference", "scale", "divergence"))
    return OutputComparison(
        output=name,
        shape=tuple(new[0].shape),
        mapped=None if way.carrier is None else way.carrier.describe(way.axes),
        agrees=agrees if promised else None,
        tolerance=0.0 if promised and exact else way.tolerance,
        differing=differing if promised else 0,
        factor=way.factor,
        **{**blank, **measured},
    )


def bring(new: NDArray[Any], source: NDArray[Any], way: Way) -> Pair:
    """Bring both to one shape, NaN and infinities replaced by zeros."""
    if new.ndim != source.ndim:
        raise Mismatch(f"it has {new.ndim} axes, the source's has {source.ndim}")
    lost, holes = _nonfinite(source)
    carried, touched = source if lost is None else np.where(lost, 0, source), lost
    if way.carrier is not None and any(way.axes):
        carried = comparable(way.carrier.carry(carried, way.axes), way.axes)
        touched = None if lost is None else comparable(way.carrier.touched(lost, way.axes), way.axes)
        new = comparable(new, way.axes)
        holes = None  # several may meet in one element
    if new.shape != carried.shape:
        apart = tuple(axis for axis, (a, b) in enumerate(zip(new.shape, carried.shape, strict=True)) if a != b)
        raise Mismatch(f"its shape is {_sizes(new)}, the source's {_sizes(source)}", apart)
    if way.factor != 1.0:
        carried = carried.astype(np.float64) * way.factor
    bad, own = _nonfinite(new)
    if bad is None and touched is None:
        return Pair(new, carried, None, alike=True)
    bad = np.zeros(new.shape, bool) if bad is None else bad
    touched = np.zeros(new.shape, bool) if touched is None else touched
    alike = bool(np.array_equal(bad, touched)) and (holes is None or own is None or np.array_equal(own, holes))
    either = bad | touched
    return Pair(np.where(either, 0, new), np.where(either, 0, carried), bad, alike)


def _nonfinite(array: NDArray[Any]) -> tuple[NDArray[np.bool_] | None, NDArray[np.int8] | None]:
    """Where an array is not finite, and which kind it is there (1, -1 or 2 for NaN); None where it is throughout."""
    if not is_float(array) or np.isfinite(array).all():
        return None, None
    kinds = np.where(np.isnan(array), 2, np.isposinf(array) * 1 - np.isneginf(array) * 1).astype(np.int8)
    return ~np.isfinite(array), kinds


def _sizes(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape)) or "scalar"


def _row_blocks(pair: Pair) -> Iterator[tuple[Floats, Floats]]:
    """Both as float64 ``[rows, last axis]``, some rows at a time."""
    left, right = pair.new, pair.source
    width = left.shape[-1] if left.ndim else 1
    if not left.size:
        return
    flat, other = left.reshape(-1, width), right.reshape(-1, width)
    step = max(1, _BLOCK // width)
    for start in range(0, len(flat), step):
        yield flat[start : start + step].astype(np.float64), other[start : start + step].astype(np.float64)

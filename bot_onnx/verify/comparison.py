"""How close outputs are to a source's: cosine, largest difference, and KL divergence where they are logits.

Where an axis was resized the source's output is first brought to the new size by the axis' operator, so that like is
held against like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx.errors import ResampleError
from bot_onnx.resample import operator
from bot_onnx.verify.outputs import OutputAxes
from bot_onnx.verify.types import OutputComparison

Floats = NDArray[np.float64]

#: ``(output name, axis, source size, target size)`` to the operator ``[target, source]``; None: not comparable.
AxisMapping = Callable[[str, int, int, int], Floats | None]

_BLOCK = 1 << 20  # numbers compared at a time
_LOOKED_UP = "vocab"


class Incomparable(Exception):
    """Two outputs cannot be held against each other; the message says why."""


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


def compare(
    name: str,
    new: Sequence[NDArray[Any]],
    source: Sequence[NDArray[Any]],
    axes: OutputAxes | None,
    mapping: AxisMapping | None,
) -> OutputComparison:
    """Compare one output over all batches.

    Args:
        name: of the output.
        new, source: its arrays, one per batch.
        axes: what its axes mean; None: unknown, so no KL divergence.
        mapping: operator of a resized axis; None: the ``value`` operator of Haar for whole ratios.

    Raises:
        Incomparable: ranks or runtime sizes differ, or there is no operator for a resized axis.
    """
    cosine = difference = scale = divergence = 0.0
    rows = 0
    told: str | None = None
    for left, right in zip(new, source, strict=True):
        left, right, told = _brought(name, left, right, axes, mapping)
        for a, b in _row_blocks(left, right):
            rows += len(a)
            cosine += cosine_sum(a, b)
            difference = max(difference, float(np.abs(a - b).max(initial=0.0)))
            scale = max(scale, float(np.abs(b).max(initial=0.0)))
            if axes is not None and axes.logits:
                divergence += divergence_sum(a, b)
    if not rows:
        raise Incomparable("it is empty")
    return OutputComparison(
        output=name,
        shape=tuple(new[0].shape),
        cosine=cosine / rows,
        max_difference=difference,
        scale=scale,
        divergence=max(0.0, divergence / rows) if axes is not None and axes.logits else None,
        mapped=told,
    )


def _row_blocks(left: NDArray[Any], right: NDArray[Any]) -> Iterator[tuple[Floats, Floats]]:
    """Both as float64 ``[rows, last axis]``, some rows at a time."""
    width = left.shape[-1] if left.ndim else 1
    if not left.size:
        return
    flat, other = left.reshape(-1, width), right.reshape(-1, width)
    step = max(1, _BLOCK // width)
    for start in range(0, len(flat), step):
        a, b = flat[start : start + step].astype(np.float64), other[start : start + step].astype(np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise Incomparable("it holds NaN or infinite values")
        yield a, b


def _brought(
    name: str, new: NDArray[Any], source: NDArray[Any], axes: OutputAxes | None, mapping: AxisMapping | None
) -> tuple[NDArray[Any], NDArray[Any], str | None]:
    """Bring both to one shape; says how, or None where they have it already."""
    if new.ndim != source.ndim:
        raise Incomparable(f"it has {new.ndim} axes, the source's has {source.ndim}")
    steps = []
    for axis, (size, before) in enumerate(zip(new.shape, source.shape, strict=True)):
        if size == before:
            continue
        role = axes.roles[axis] if axes is not None and axis < len(axes.roles) else None
        if mapping is None and role == _LOOKED_UP:
            kept = range(min(size, before))  # tokens are never mixed
            new, source = new.take(kept, axis), source.take(kept, axis)
            steps.append(f"axis {axis}: the first {len(kept)} tokens of both")
            continue
        if mapping is None:
            matrix, how = _value_operator(axis, before, size, role, axes)
        else:
            matrix, how = _given(mapping, name, axis, before, size), "the axis' operator"
        source = np.moveaxis(np.tensordot(matrix, source.astype(np.float64), axes=(1, axis)), 0, axis)
        steps.append(f"axis {axis}: {before} to {size} by {how}")
    return new, source, "; ".join(steps) or None


def _given(mapping: AxisMapping, name: str, axis: int, before: int, size: int) -> Floats:
    matrix = mapping(name, axis, before, size)
    if matrix is None:
        raise Incomparable(f"there is no operator for its axis {axis} ({before} to {size})")
    if matrix.shape != (size, before):
        raise Incomparable(f"the operator of its axis {axis} has shape {matrix.shape}, not ({size}, {before})")
    return matrix


def _value_operator(axis: int, before: int, size: int, role: str | None, axes: OutputAxes | None) -> tuple[Floats, str]:
    where = f"its axis {axis} went from {before} to {size}"
    if role is None:
        raise Incomparable(f"{where}, and it is no axis of a weight")
    if axes is not None and axes.composite[axis]:
        raise Incomparable(f"{where}, and it is made of parts")
    if max(before, size) % min(before, size):
        raise Incomparable(f"{where}, which is no whole ratio")
    try:
        matrix = operator("bot", before, size, direction="out", convention="value")
    except ResampleError as error:
        raise Incomparable(f"{where}: {error}") from error
    return matrix, "means of neighbours" if size < before else "copies of neighbours"

"""Growth by whole indices: copies of neighbours at any ratio, and new indices beside the old ones.

A dim grows by one *law*, the same on every tensor that carries it; n its source size, m its target size, k = m - n:

* ``copies``: target index t copies source index ⌊t·n/m⌋, so every index has ⌊m/n⌋ or ⌈m/n⌉ copies, side by side. What
  contracts the axis gives each copy 1/c, c the number of copies (Chen, Goodfellow & Shlens 2016). At whole ratios it
  is Haar growth.
* ``zeros``: [I; 0]. The new indices hold nothing, what contracts them may hold anything. An RMSNorm over such an axis
  finds the same sum of squares over more indices.
* ``means``: [I; 1ᵀ/n]. The new indices hold the mean of the old ones, so that a LayerNorm over the axis finds the
  same mean and the same sum of squared deviations, and gives 0 there; what contracts them takes no notice.
* ``again``: target index t copies source index t mod n: what is looked up stays where it was.

With R the operator of a law and D that of a contraction, DᵀR = I.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array, Floats, Namespace, dtype_name
from bot_onnx._resample.filters import COPIES, MEANS, ZEROS, Form, Matrix
from bot_onnx._stack.types import Axis

AGAIN = "again"
LAWS = frozenset({COPIES, ZEROS, MEANS, AGAIN})


@lru_cache(maxsize=32)
def copied_index(law: str, source: int, target: int) -> NDArray[np.int64]:
    """Source index of every target index, of the laws ``copies`` and ``again``; read-only."""
    places = np.arange(target)
    index = places % source if law == AGAIN else places * source // target
    index.flags.writeable = False
    return index


@lru_cache(maxsize=32)
def shares(law: str, source: int, target: int) -> Matrix:
    """1/c for every target index, c the number of copies of its source index; read-only."""
    index = copied_index(law, source, target)
    share: Matrix = 1.0 / np.bincount(index, minlength=source)[index]
    share.flags.writeable = False
    return share


def growth_matrix(law: str, source: int, target: int, form: Form) -> Matrix:
    """The operator of a law with its gain, ``[target, source]``; see :func:`bot_onnx._resample.filters.axis_matrix`."""
    matrix = np.zeros((target, source))
    if law in (COPIES, AGAIN):
        matrix[np.arange(target), copied_index(law, source, target)] = 1.0
        if form == "dual":
            matrix *= shares(law, source, target)[:, None]
    else:
        matrix[:source] = np.eye(source)
        if law == MEANS and form != "dual":
            matrix[source:] = 1.0 / source
    return matrix * np.sqrt(source / target) if form == "sqrt" else matrix


def grow(x: Array, law: str, target: int, form: Form, xp: Namespace) -> Array:
    """:func:`growth_matrix` times ``[pre, source, post]`` over the middle axis."""
    pre, source, post = x.shape
    if law in (COPIES, AGAIN):
        y = xp.take(x, xp.asarray(copied_index(law, source, target)), axis=1)
        if form == "dual":
            y *= xp.asarray(shares(law, source, target).astype(dtype_name(x)))[None, :, None]
    else:
        if law == MEANS and form != "dual":
            new = xp.broadcast_to(xp.mean(x, axis=1, keepdims=True), (pre, target - source, post))
        else:
            new = xp.zeros((pre, target - source, post), dtype=x.dtype)
        y = xp.concat([x, new], axis=1)
    if form == "sqrt":
        y *= (source / target) ** 0.5
    return y


def sum_copies(x: Array, law: str, source: int, xp: Namespace) -> Array:
    """Sum of the copies of every source index, ``[pre, target, post]`` to ``[pre, source, post]``."""
    target = x.shape[1]
    if isinstance(x, np.ndarray) and law == COPIES:
        starts = np.searchsorted(copied_index(law, source, target), np.arange(source))
        return np.add.reduceat(x, starts, axis=1) if x.shape[2] == 1 else _sum_rows(x, starts)
    matrix = growth_matrix(law, source, target, "unit").T
    return xp.matmul(xp.asarray(np.ascontiguousarray(matrix).astype(dtype_name(x))), x)


def _sum_rows(x: Floats, starts: NDArray[np.int64]) -> Floats:
    """``np.add.reduceat(x, starts, axis=1)`` of groups of about equal size: whole rows at once, at an eighth of it."""
    target, source = x.shape[1], len(starts)
    each = target // source
    total: Floats = np.take(x, starts, axis=1)
    for further in range(1, each):
        total += np.take(x, starts + further, axis=1)
    once_more = np.flatnonzero(np.diff(starts, append=target) > each)
    total[:, once_more] += np.take(x, starts[once_more] + each, axis=1)
    return total


def seen_when_extended(x: Array, law: str, source: int, xp: Namespace) -> Array:
    """The part of ``[pre, target, post]`` along a contracted axis that signals of ``zeros`` or ``means`` reach.

    The old indices, and of the new ones, where they hold a mean, their sum: they are equal to one another in the
    stream, and 0 behind a LayerNorm.
    """
    old, new = x[:, :source, :], x[:, source:, :]
    if law == MEANS:
        return xp.concat([old, xp.broadcast_to(xp.mean(new, axis=1, keepdims=True), new.shape)], axis=1)
    return xp.concat([old, xp.zeros(new.shape, dtype=x.dtype)], axis=1)


def uneven_score_gain(axis: Axis) -> Matrix | None:
    """Gain per index of queries and keys whose head_dim grows by copies that are not equally many; None else.

    √(m/n / c): with the gain (n/m)^¼ that all indices take, q·k counts every source index once and follows √d.
    """
    if axis.target <= axis.source or axis.target % axis.source == 0:
        return None
    return np.sqrt(shares(COPIES, axis.source, axis.target) * (axis.target / axis.source))

"""Bringing a source's values to the target's size, by the operators that its weights were resampled with.

An activation is resized along an axis by the method's operator of an ``out`` axis: leaf by leaf, as Kronecker products
in a product and block by block in a concat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.selection import CHOSEN_ROLES
from bot_onnx._resample import make_options
from bot_onnx._resample.axes import changes, leaves, walk
from bot_onnx._resample.axes import reverse as _reversed
from bot_onnx._resample.composite import leaf_matrix
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role
from bot_onnx._surgery.provenance import RUNTIME, Axes, Lineage

Floats = NDArray[np.float64]
Array = NDArray[Any]

_CHOSEN = Role.VOCAB


class Incomparable(Exception):
    """Two values cannot be held against each other; the message says why."""


class Mismatch(Incomparable):
    """They cannot because one of them is not what was planned.

    Attributes:
        axes: axes whose sizes differ, where nothing else does.
    """

    def __init__(self, message: str, axes: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.axes = axes


class Carrier:
    """The operators of one resize.

    Args:
        lineage: what the target says of its source.
    """

    def __init__(self, lineage: Lineage) -> None:
        self._lineage = lineage
        self._options = make_options(lineage.method, **lineage.options)
        self._matrix = lru_cache(maxsize=16)(self._leaf_matrix)

    def carry(self, array: Array, axes: Axes) -> Array:
        """A source's value at the target's size: float64 where an axis changes, else as it is.

        New tokens of a vocabulary come out as zeros; :func:`comparable` takes them off.

        Raises:
            Incomparable: its sizes are not those that the axes go from, or there is no operator.
        """
        return _along(array, axes, lambda x, leaf: self._applied(x, leaf, self._matrix), np.float64)

    def size_before(self, axis: Axis | None, size: int) -> int:
        """How many indices the source has where the target has ``size``."""
        return size if axis is None else _settled(_reversed(axis), size).target

    def touched(self, mask: NDArray[np.bool_], axes: Axes) -> NDArray[np.bool_]:
        """Which elements of :meth:`carry` come from elements in ``mask``.

        Raises:
            Incomparable: see :meth:`carry`.
        """
        reached = _along(mask, axes, lambda x, leaf: self._applied(x, leaf, self._magnitudes), np.float64)
        return np.asarray(reached > 0)

    def describe(self, axes: Axes) -> str | None:
        """How it is done, for people; None where no axis changes."""
        told = [
            f"axis {index}: {axis.source} to {axis.target} by {self._how(axis)}"
            for index, axis in enumerate(axes)
            if axis is not None
        ]
        return "; ".join(told) or None

    def _how(self, axis: Axis) -> str:
        changed = [leaf for leaf in leaves(axis) if leaf.source != leaf.target]
        if all(leaf.role == _CHOSEN for leaf in changed):
            return "the tokens of both"
        return f"the operator of {self._lineage.method}" + (", part by part" if axis.parts else "")

    def _magnitudes(self, leaf: Axis) -> Floats:
        return np.abs(self._matrix(leaf))

    def _applied(self, x: Array, leaf: Axis, matrix: Callable[[Axis], Floats]) -> Array:
        if leaf.role == _CHOSEN:
            kept = self._lineage.tokens
            made = x[:, list(kept), :] if self._picks(leaf) else x[:, : leaf.target, :]
            missing = leaf.target - made.shape[1]
            return np.pad(made, ((0, 0), (0, missing), (0, 0))) if missing else made
        if leaf.target < leaf.source and self._is_aligned(leaf):
            raise Incomparable(
                f"its dim {leaf.role} went from {leaf.source} to {leaf.target} in another basis ({self._lineage.align})"
            )
        with np.errstate(all="ignore"):  # outputs may hold NaN and infinities: comparing them tells
            carried: Array = np.matmul(matrix(leaf), x)
        return carried

    def _picks(self, leaf: Axis) -> bool:
        """Whether the tokens along a leaf are those that the file names."""
        return leaf.source > leaf.target == len(self._lineage.tokens)

    def _is_aligned(self, leaf: Axis) -> bool:
        """Whether an alignment may have brought other indices together than the operator does; select: by choosing."""
        return self._lineage.align != "none" and (self._lineage.align != "select" or leaf.role in CHOSEN_ROLES)

    def _leaf_matrix(self, leaf: Axis) -> Floats:
        """The one place that says which matrix a leaf was resized by, ``[target, source]``."""
        try:
            return leaf_matrix(leaf, self._lineage.method, self._options, self._lineage.seed)
        except Exception as error:  # whatever a file says of sizes and options
            raise Incomparable(f"there is no operator from {leaf.source} to {leaf.target}: {error}") from error


def comparable(array: Array, axes: Axes) -> Array:
    """A value at the target's size without the tokens that the source does not have."""
    cut = tuple(None if axis is None else _cut(axis) for axis in axes)
    if not any(axis is not None and changes(axis) for axis in cut):
        return array
    return _along(array, cut, lambda x, axis: x[:, : axis.target, :], array.dtype)


def _cut(axis: Axis) -> Axis:
    """From the target's size to what both have."""
    if not axis.parts:
        kept = min(axis.source, axis.target) if axis.role == _CHOSEN else axis.target
        return replace(axis, source=axis.target, target=kept)
    return _combined(axis, tuple(map(_cut, axis.parts)))


def _along(array: Array, axes: Axes, leaf: Callable[[Array, Axis], Array], dtype: Any) -> Array:
    """Apply a function of leaves along the axes that change."""
    if not any(axis is not None for axis in axes):
        return array
    if len(axes) != array.ndim:
        raise Mismatch(f"it has {array.ndim} axes, {len(axes)} were planned")
    array = array.astype(dtype)
    for index, planned in enumerate(axes):
        if planned is None:
            continue
        shape = array.shape
        axis = _settled(planned, shape[index])
        if axis.source != shape[index]:
            raise Mismatch(f"its axis {index} has {shape[index]} indices where {axis.source} were planned")
        if not changes(axis):
            continue
        made = walk(array.reshape(prod(shape[:index]), shape[index], prod(shape[index + 1 :])), axis, leaf, np)
        array = made.reshape(*shape[:index], axis.target, *shape[index + 1 :])
    return array


def _settled(axis: Axis, size: int) -> Axis:
    """The axis with the size of its part that is set at run time, where it has one."""
    count = sum(leaf.role == RUNTIME.role for leaf in leaves(axis))
    if not count:
        return axis
    least, step = axis.source, _with_runtime(axis, 1).source - axis.source  # the size is linear in that of the part
    if count > 1 or step <= 0 or (size - least) % step:
        raise Mismatch(f"its parts cannot be told apart in {size} indices")
    return _with_runtime(axis, (size - least) // step)


def _with_runtime(axis: Axis, size: int) -> Axis:
    if axis.role == RUNTIME.role:
        return replace(axis, source=size, target=size)
    return axis if not axis.parts else _combined(axis, tuple(_with_runtime(part, size) for part in axis.parts))


def _combined(axis: Axis, parts: tuple[Axis, ...]) -> Axis:
    """The composite with other parts."""
    combine = prod if axis.kind == "product" else sum
    return replace(
        axis, source=combine(part.source for part in parts), target=combine(part.target for part in parts), parts=parts
    )

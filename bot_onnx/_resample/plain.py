"""Axes as tensors have them, where a published method knows nothing of heads: one signal each.

A product (heads x head_dim) is one axis; so is the output of queries, keys and values side by side. What else is a
concatenation (gates and values of a feed-forward part in one matrix) is as many axes as parts: a file may keep those
apart, and what it fuses makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlainTask:
    """A work order whose axes are plain.

    Attributes:
        task: the order.
        orders: per axis, for an axis whose elements were brought into another order, the given place of every element
            in the source, and the new place of every element in the target; None for all others. It is that of a file
            whose queries, keys and values stand head by head: they come side by side.
    """

    task: StackTask
    orders: tuple[tuple[Indices, Indices] | None, ...]

    def readers(self, source: Sequence[Callable[[], Array]], xp: Namespace) -> list[Callable[[], Array]]:
        """Readers of the source's layers with their elements in the new order."""
        if not any(self.orders):
            return list(source)
        return [lambda reader=reader: self._ordered(reader(), 0, xp) for reader in source]  # type: ignore[misc]

    def given(self, layers: Iterator[Array], xp: Namespace) -> Iterator[Array]:
        """Layers of the target with their elements in the order of the file."""
        return layers if not any(self.orders) else (self._ordered(layer, 1, xp) for layer in layers)

    def _ordered(self, x: Array, side: int, xp: Namespace) -> Array:
        for place, order in enumerate(self.orders):
            if order is not None:
                x = np.take(x, order[side], place) if isinstance(x, np.ndarray) else _take(x, order[side], place, xp)
        return x


def _take(x: Array, order: Indices, place: int, xp: Namespace) -> Array:
    return xp.take(x, xp.asarray(order), axis=place)


def plain_task(task: StackTask) -> PlainTask:
    """The work order with its axes as the tensors have them."""
    axes: list[Axis] = []
    orders: list[tuple[Indices, Indices] | None] = []
    for axis in task.axes:
        place = _place_of_qkv(axis)
        orders.append(None if place is None else _side_by_side(axis, place))
        axes.append(_plain(axis) if place is None else _leaf(axis))
    return PlainTask(replace(task, axes=tuple(axes)), tuple(orders))


def _plain(axis: Axis) -> Axis:
    if axis.kind == "leaf":
        return axis
    if axis.kind == "concat":
        if _is_qkv(axis) or axis.role == Role.HEAD_DIM:  # a rotary embedding's halves are no axes of their own
            return _leaf(axis)
        return replace(axis, parts=tuple(map(_plain, axis.parts)), score=False, head_dim=None)
    counts = [place for place, part in enumerate(axis.parts) if part.role == Role.COUNT]
    if not counts:
        return _leaf(axis)
    if counts != [0] or axis.parts[0].source != axis.parts[0].target:
        return axis
    count, rest = axis.parts[0].source, axis.parts[1:]
    part = Axis("leaf", axis.source // count, axis.target // count, Role.FREE if len(rest) > 1 else rest[0].role)
    return Axis("concat", axis.source, axis.target, axis.role, (part,) * count)


def _leaf(axis: Axis) -> Axis:
    return Axis("leaf", axis.source, axis.target, dim=axis.dim)


def _is_qkv(axis: Axis) -> bool:
    """Whether an axis is queries, keys and values, all of one size."""
    alike = {(part.source, part.target) for part in axis.parts}
    return (
        axis.kind == "concat"
        and len(axis.parts) == 3
        and len(alike) == 1
        and [part.score for part in axis.parts] == [True, True, False]
    )


def _place_of_qkv(axis: Axis) -> int | None:
    """The factor of a product that is queries, keys and values of a head; None where there is none."""
    places = [place for place, part in enumerate(axis.parts) if place and _is_qkv(part)]
    return places[0] if axis.kind == "product" and places else None


def _side_by_side(axis: Axis, place: int) -> tuple[Indices, Indices]:
    """For elements head by head: where in the source those side by side are, and where in the target they are to go."""

    def shape(side: str) -> tuple[int, int, int]:
        sizes = [getattr(part, side) for part in axis.parts]
        return prod(sizes[:place]), 3, sizes[place] // 3 * prod(sizes[place + 1 :])

    source, target = (np.arange(prod(shape(side))).reshape(shape(side)) for side in ("source", "target"))
    return source.transpose(1, 0, 2).reshape(-1), np.argsort(target.transpose(1, 0, 2).reshape(-1))

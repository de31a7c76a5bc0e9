"""Composite axes: what changes in them, what may not, and how an operator of the leaves acts on the whole.

An axis is a leaf, an ordered product (mixed radix) or an ordered concatenation. Resampling touches leaves only: a
product takes the Kronecker product of its parts' operators, a concatenation each part's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Literal

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role
from bot_onnx.errors import ResampleError

FIXED_ROLES = frozenset({Role.COUNT, Role.IO, Role.SPATIAL})
#: Axes that are looked up rather than summed over: their operators take no gain.
LOOKED_UP_ROLES = frozenset({Role.POSITIONS, Role.VOCAB})
#: What a score contracts.
HEAD_DIM_ROLES = frozenset({Role.HEAD_DIM, Role.HALF_HEAD_DIM})
#: Kinds of tensors whose ``in`` axes are contracted with activations.
CONTRACTED_KINDS = frozenset({"matrix", "kernel", "other"})

#: ``[pre, leaf.source, post]`` to ``[pre, leaf.target, post]``.
LeafFunction = Callable[[Array, Axis], Array]


def leaves(axis: Axis) -> Iterator[Axis]:
    """The leaves of an axis, in order."""
    if not axis.parts:
        yield axis
    for part in axis.parts:
        yield from leaves(part)


def changes(axis: Axis) -> bool:
    """Whether any leaf of the axis changes size (12·64 to 6·128 does, though both are 768)."""
    return any(leaf.source != leaf.target for leaf in leaves(axis))


def grows(axis: Axis) -> bool:
    """Whether any leaf of the axis grows."""
    return any(leaf.source < leaf.target for leaf in leaves(axis))


def place_of(task: StackTask) -> str:
    """How messages call a stack."""
    return f"stack {task.stack} ({task.name})"


def check_axes(task: StackTask) -> None:
    """Refuse what no method may do to an axis.

    Raises:
        ResampleError: a count, io or spatial axis changes size, or the parts do not make up their axis.
    """
    for index, axis in enumerate(task.axes):
        _check_axis(axis, f"{place_of(task)}, axis {index}")


def _check_axis(axis: Axis, place: str) -> None:
    if axis.role in FIXED_ROLES and changes(axis):
        raise ResampleError(
            f"{place}: a dim of role '{axis.role}' never changes size, but {axis.source} -> {axis.target} is asked; "
            "leave it out of the spec"
        )
    if axis.source < 1 or axis.target < 1:
        raise ResampleError(f"{place}: sizes start at 1, but {axis.source} -> {axis.target} is asked")
    if axis.kind != "leaf":
        sizes = [(part.source, part.target) for part in axis.parts]
        combine = prod if axis.kind == "product" else sum
        if (combine(s for s, _ in sizes), combine(t for _, t in sizes)) != (axis.source, axis.target):
            raise ResampleError(
                f"{place}: {axis.kind} of the parts {sizes} does not give {axis.source} -> {axis.target}; "
                "resize its parts so that they do"
            )
    for part in axis.parts:
        _check_axis(part, place)


def refuse_direction(task: StackTask, refused: Literal["shrink", "grow"], method: str, way_out: str) -> None:
    """Refuse a task in which any leaf, or the number of layers, moves in a direction that a method cannot go.

    One such leaf is enough, whatever the others do: all tensors that carry the dim are then refused alike.

    Raises:
        ResampleError: names the stack, the axis, the role and its sizes, and the ``way_out``.
    """
    sizes = [
        (f"axis {i} ({leaf.role})", leaf.source, leaf.target) for i, a in enumerate(task.axes) for leaf in leaves(a)
    ]
    for what, source, target in [*sizes, ("number of layers", *task.layers)]:
        if (target < source) if refused == "shrink" else (target > source):
            can = "grow" if refused == "shrink" else "shrink"
            raise ResampleError(
                f"{place_of(task)}: {what} {refused}s from {source} to {target}, and method '{method}' can only "
                f"{can}; {way_out}"
            )


def refuse_width(task: StackTask, method: str, way_out: str) -> None:
    """Refuse a task in which any leaf changes size.

    Raises:
        ResampleError: names the stack, the axis, the role and its sizes, and the ``way_out``.
    """
    for index, axis in enumerate(task.axes):
        for leaf in leaves(axis):
            if leaf.source != leaf.target:
                raise ResampleError(
                    f"{place_of(task)}: axis {index} ({leaf.role}) goes from {leaf.source} to {leaf.target}, and "
                    f"method '{method}' changes the depth only; {way_out}"
                )


def walk(
    x: Array, axis: Axis, leaf: LeafFunction, xp: Namespace, after: LeafFunction | None = None, *, every: bool = False
) -> Array:
    """Apply a function of leaves along a composite axis, ``[pre, axis.source, post]`` to ``[pre, axis.target, post]``.

    Args:
        x: view of the tensor with the axis in the middle.
        axis: how it changes.
        leaf: called on the leaves that change size.
        xp: namespace of ``x``.
        after: called on the result of every part, and of the axis itself.
        every: call ``leaf`` on those that stay as well.
    """
    if axis.kind == "product":
        x = _product(x, axis, leaf, xp, after, every)
    elif axis.kind == "concat":
        x = _concat(x, axis, leaf, xp, after, every)
    elif every or axis.source != axis.target:
        x = leaf(x, axis)
    return x if after is None else after(x, axis)


def _product(x: Array, axis: Axis, leaf: LeafFunction, xp: Namespace, after: LeafFunction | None, every: bool) -> Array:
    """Kronecker product of the parts' operators, factor by factor: (A ⊗ B) vec X = vec(A X Bᵀ)."""
    pre, _, post = x.shape
    for j, part in enumerate(axis.parts):
        if not every and not changes(part):
            continue
        before = prod(p.target for p in axis.parts[:j])
        behind = prod(p.source for p in axis.parts[j + 1 :])
        x = xp.reshape(x, (pre * before, part.source, behind * post))
        x = walk(x, part, leaf, xp, after, every=every)
    return xp.reshape(x, (pre, axis.target, post))


def _concat(x: Array, axis: Axis, leaf: LeafFunction, xp: Namespace, after: LeafFunction | None, every: bool) -> Array:
    pieces, start = [], 0
    for part in axis.parts:
        pieces.append(walk(x[:, start : start + part.source, :], part, leaf, xp, after, every=every))
        start += part.source
    return xp.concat(pieces, axis=1)


def mark_scores(axis: Axis) -> Axis:
    """The axis with the leaves marked that are the head_dim, or its parts, of an axis of queries or keys.

    Their ``head_dim`` is left out: the correction of the whole axis is made once, where the mark was.
    """
    if not axis.parts:
        return axis
    return replace(axis, parts=tuple(_marked(part, inside=axis.score) for part in axis.parts))


def _marked(axis: Axis, *, inside: bool) -> Axis:
    if not axis.parts:
        return replace(axis, score=True) if inside and axis.role in HEAD_DIM_ROLES and not axis.score else axis
    return replace(axis, parts=tuple(_marked(part, inside=inside or axis.score) for part in axis.parts))


def only_growing(axis: Axis) -> Axis:
    """The axis with the leaves that shrink already at their target size."""
    if not axis.parts:
        return replace(axis, source=min(axis.source, axis.target))
    parts = tuple(only_growing(part) for part in axis.parts)
    sizes = [part.source for part in parts]
    return replace(axis, source=prod(sizes) if axis.kind == "product" else sum(sizes), parts=parts)


def reverse(axis: Axis) -> Axis:
    """The axis with source and target exchanged, leaf by leaf."""
    return replace(axis, source=axis.target, target=axis.source, parts=tuple(map(reverse, axis.parts)))

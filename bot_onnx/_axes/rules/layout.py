"""Ops that rearrange axes without computing: Transpose, Reshape, Unsqueeze, Expand, Tile, …"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim, Pair, quotient, times
from bot_onnx._axes.rules.base import Context, axis_of, broadcast, rule
from bot_onnx._axes.written_norms import is_norm_of_groups
from bot_onnx._reasons import Reason, Why

_PADDED_AXES = 3  #: input of Pad that says which axes are padded, if not all


@rule("Transpose")
def transpose(context: Context, node: ir.Node) -> None:
    """Axes are permuted."""
    dims = context.axes_of(node.inputs[0])
    perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(dims))[::-1]
    if sorted(perm) != list(range(len(dims))):  # a value that has other axes than its maker is said to give
        context.new_axes(node.outputs[0], Reason(Why.TURNED))
        return
    context.set_axes(node.outputs[0], [dims[axis] for axis in perm])


@rule("Unsqueeze", "Squeeze")
def squeeze(context: Context, node: ir.Node) -> None:
    """Unit axes come or go; the others keep their order.

    A branch that did not run may drop an axis that is 1 only where the branch is taken.
    """
    given = squeezed_axes(context, node)
    if given is not None:
        context.set_axes(
            node.outputs[0], [d for axis, d in enumerate(context.axes_of(node.inputs[0])) if axis not in given]
        )
        return
    real = [dim for dim, size in zip(*_dims_and_sizes(context, node.inputs[0]), strict=True) if size != (1, 1)]
    queue = iter(real)
    sizes = context.sizes(node.outputs[0])
    context.set_axes(node.outputs[0], [None if size == (1, 1) else next(queue) for size in sizes])


def squeezed_axes(context: Context, node: ir.Node) -> set[int] | None:
    """Axes that a Squeeze drops, where it says so."""
    if node.op_type != "Squeeze":
        return None
    rank = len(context.axes_of(node.inputs[0]))
    if "axes" in node.attributes:
        return {axis % rank for axis in node.attributes["axes"].as_ints()}
    numbers = context.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    return {axis % rank for axis in numbers[0]} if numbers else None


def _dims_and_sizes(context: Context, value: ir.Value | None) -> tuple[tuple[MaybeDim, ...], tuple[Pair, ...]]:
    assert value is not None
    return context.axes_of(value), context.sizes(value)


@rule("Reshape", "Flatten")
def reshape(context: Context, node: ir.Node) -> None:
    """Axes are joined and split in minimal blocks of equal product."""
    dims, sizes = _dims_and_sizes(context, node.inputs[0])
    output = node.outputs[0]
    reason = Reason.at(Why.REGROUPED, node)
    normed = is_norm_of_groups(context, node)
    context.set_axes(output, regroup(context, dims, sizes, context.sizes(output), reason, normed=normed))
    if node.op_type == "Reshape":
        _need_shape(context, node, 1, zero_copies=not node.attributes.get_int("allowzero", 0))


def _need_shape(context: Context, node: ir.Node, slot: int, *, zero_copies: bool) -> None:
    """Every element of a shape input that names a static size must follow the dim of its axis."""
    numbers = context.numbers(node.inputs[slot])
    dims = context.axes_of(node.outputs[0])
    if numbers is None:
        return
    shift = len(dims) - len(numbers[0])  # Expand aligns from the right
    for element, value in enumerate(numbers[0]):
        axis = element + shift
        if axis < 0 or value == -1 or (value == 0 and zero_copies) or value == 1:
            continue
        dim = dims[axis]
        if dim is not None:
            context.require(node, slot, element, [dim])


def regroup(
    context: Context,
    dims: tuple[MaybeDim, ...],
    sizes: tuple[Pair, ...],
    target: tuple[Pair, ...],
    reason: Reason,
    *,
    normed: bool = False,
) -> list[MaybeDim]:
    """Dims of a reshaped value; where no mixed-radix reading exists, the axes concerned are frozen for ``reason``.

    Args:
        context: the dims. dims, sizes: of the value, one per axis. target: sizes of the reshaped one. reason: above.
        normed: the value is dealt out to be normalised: where parts of a concat end does not matter.
    """
    ours = [dim for dim, size in zip(dims, sizes, strict=True) if size != (1, 1)]
    wanted = [axis for axis, size in enumerate(target) if size != (1, 1)]
    result: list[MaybeDim] = [None] * len(target)
    start = position = 0
    while start < len(ours) or position < len(wanted):
        stop, end = _block(context, ours, start, [target[axis] for axis in wanted], position)
        axes = wanted[position:end]
        wished = [target[axis] for axis in axes]
        block = _regroup_block(context, ours[start:stop], wished, normed=normed) if end is not None else None
        if block is None:  # what lies outside of these axes is not concerned
            for dim in ours[start:stop]:
                context.table.freeze(dim, reason)
            block = [context.table.leaf(target[axis]) for axis in axes]
            for dim in block:
                context.table.freeze(dim, reason)
        for axis, dim in zip(axes, block, strict=True):
            result[axis] = dim
        if stop is None or end is None:
            break
        start, position = stop, end
    return result


def _block(
    context: Context, ours: list[MaybeDim], start: int, target: list[Pair], position: int
) -> tuple[int, int] | tuple[None, None]:
    """Ends of the smallest runs of source and target axes, from the left, whose products agree in both runs."""
    stop, end = start, position
    left: Pair = (1, 1)
    right: Pair = (1, 1)
    while True:
        if stop > start and end > position and left == right:
            return stop, end
        if stop < len(ours) and (left[0] * left[1] <= right[0] * right[1] or end == len(target)):
            left = times([left, context.table.size(ours[stop])])
            stop += 1
        elif end < len(target):
            right = times([right, target[end]])
            end += 1
        else:
            return None, None


def _regroup_block(
    context: Context, ours: list[MaybeDim], target: list[Pair], *, normed: bool
) -> list[MaybeDim] | None:
    """Reread one block from the right: split what is too large, join what is too small."""
    stack = list(ours)
    result: list[MaybeDim] = []
    for size in reversed(target):
        parts: list[MaybeDim] = []
        need = size
        while need != (1, 1):
            if not stack:
                return None
            dim = stack.pop()
            rest = quotient(need, context.table.size(dim))
            if rest is not None:
                parts.insert(0, dim)
                need = rest
                continue
            assert dim is not None
            pieces = context.table.split(dim, need) or (context.table.deal(dim, need) if normed else None)
            if pieces is None:
                return None
            parts.insert(0, pieces[1])
            stack.append(pieces[0])
            need = (1, 1)
        result.insert(0, context.table.product(parts))
    return result if not stack else None


@rule("Expand")
def expand(context: Context, node: ir.Node) -> None:
    """Unit axes grow to new dims, named by the shape where it says so."""
    output = node.outputs[0]
    dims, sizes = context.axes_of(node.inputs[0]), context.sizes(output)
    result: list[MaybeDim] = [*[None] * (len(sizes) - len(dims)), *dims]
    numbers = context.numbers(node.inputs[1])
    shift = len(sizes) - (len(numbers[0]) if numbers else 0)
    for axis, size in enumerate(sizes):
        if result[axis] is None and size != (1, 1):
            named = context.size_dim(node.inputs[1], axis - shift) if numbers and axis >= shift else None
            result[axis] = named if named is not None else context.table.leaf(size)
    context.set_axes(output, result)
    _need_shape(context, node, 1, zero_copies=False)


@rule("Tile")
def tile(context: Context, node: ir.Node) -> None:
    """A repeated axis is repeats x the axis; the number of repeats must follow where it can."""
    dims = context.axes_of(node.inputs[0])
    output = node.outputs[0]
    result: list[MaybeDim] = []
    for axis, (dim, size) in enumerate(zip(dims, context.sizes(output), strict=True)):
        repeats = quotient(size, context.table.size(dim))
        if repeats is None or repeats == (1, 1):
            result.append(dim if repeats else context.table.leaf(size))
            continue
        count = context.table.leaf(repeats)
        if count is not None and context.elements(node.inputs[1]) is not None:
            context.require(node, 1, axis, [count])
        else:
            context.table.freeze(count, Reason.at(Why.REPEATS, node))
        result.append(context.table.product([count, dim]))
    context.set_axes(output, result)


@rule("Concat")
def concat(context: Context, node: ir.Node) -> None:
    """The joined axis is the concat of its parts; the others merge."""
    inputs = [context.axes_of(value) for value in node.inputs if value is not None]
    axis = axis_of(node, "axis", 0, len(inputs[0]))
    merged = broadcast(context, [tuple(None if i == axis else d for i, d in enumerate(dims)) for dims in inputs])
    output = node.outputs[0]
    total = context.sizes(output)[axis]
    if total[0] != total[1]:
        merged[axis] = inputs[0][axis] if len(inputs) == 1 else context.table.leaf(total)
    elif total == (1, 1):  # of one element and empty ones
        merged[axis] = None
    else:
        held = [dims[axis] for dims in inputs if context.table.size(dims[axis]) != (0, 0)]
        merged[axis] = context.table.concat([_part(context, node, dim) for dim in held])
    context.set_axes(output, merged)


def _part(context: Context, node: ir.Node, dim: MaybeDim) -> int:
    if dim is not None:
        return dim
    part = context.table.part(1)
    context.table.freeze(part, Reason.at(Why.CONCAT_ELEMENT, node))
    return part


@rule("Pad")
def pad(context: Context, node: ir.Node) -> None:
    """An axis that is not padded stays; a padded one has fixed numbers of elements before and after its own."""
    value = node.inputs[0]
    dims, sizes = _dims_and_sizes(context, value)
    amounts = _pad_amounts(context, node, len(dims))
    reason = Reason.at(Why.PADDED, node)
    result: list[MaybeDim] = []
    for axis, (dim, size, padded) in enumerate(zip(dims, sizes, context.sizes(node.outputs[0]), strict=True)):
        before, after = amounts[axis] if amounts is not None else (-1, -1)
        if size == padded:
            result.append(dim)
        elif dim is not None and size[0] == size[1] and min(before, after) >= 0:
            ends = [[context.table.part(count)] if count else [] for count in (before, after)]
            for end in (*ends[0], *ends[1]):
                context.table.freeze(end, reason)
            result.append(context.table.concat([*ends[0], dim, *ends[1]]))
        else:
            context.table.freeze(dim, reason)
            result.append(context.table.leaf(padded))
            context.table.freeze(result[-1], reason)
    context.set_axes(node.outputs[0], result)


def _pad_amounts(context: Context, node: ir.Node, rank: int) -> list[tuple[int, int]] | None:
    """(before, after) per axis; None where they are not known."""
    if "pads" in node.attributes:
        numbers = list(node.attributes["pads"].as_ints())
    else:
        both = context.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
        if both is None or both[0] != both[1]:
            return None
        numbers = both[0]
    axes = list(range(rank))
    if len(node.inputs) > _PADDED_AXES and node.inputs[_PADDED_AXES] is not None:
        given = context.numbers(node.inputs[_PADDED_AXES])
        if given is None:
            return None
        axes = [axis % rank for axis in given[0]]
    amounts = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        amounts[axis] = (numbers[position], numbers[position + len(axes)])
    return amounts

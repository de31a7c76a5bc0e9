"""Ops that pick parts of an axis: Gather, Slice, Split and their kin."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.rules.base import Context, axis_of, broadcast, rule
from bot_onnx._ops import measures
from bot_onnx._reasons import Reason, Why

_HUGE = 1 << 30  #: a bound beyond this means "to the end"


@rule("Gather")
def gather(context: Context, node: ir.Node) -> None:
    """The gathered axis gives way to the axes of the indices.

    Indices that are constants pick elements by position, so the axis must keep its size (or a part of it, which is
    judged when all parts are known); a table looked up by computed indices is an embedding (its index axis is judged
    later, where the indices come from).
    """
    data, indices = node.inputs[:2]
    assert data is not None and indices is not None
    dims = context.axes_of(data)
    axis = axis_of(node, "axis", 0, len(dims))
    if indices.const_value is not None:
        table = context.table
        picked = dims[axis]
        if picked is not None and table.is_static(picked) and not (_is_shape(context, data) or _only_measured(node)):
            context.picked.append((node, picked))
    else:
        context.gathers.append(node)
    context.set_axes(node.outputs[0], [*dims[:axis], *context.axes_of(indices), *dims[axis + 1 :]])


def hold_picked(context: Context) -> None:
    """Freeze what Gathers pick by constant indices, when the whole graph has been seen.

    A single element within a part of a concat (the key head after the query heads) holds that part alone; its index
    follows the sizes of the parts before it, or behind it where it counts from the end.
    """
    table = context.table
    for node, dim in context.picked:
        reason = Reason.at(Why.PICKED, node)
        indices, composite = node.inputs[1], table.composite(dim)
        single = indices is not None and indices.const_value is not None and indices.const_value.size == 1
        numbers = context.numbers(indices) if single else None
        if numbers is None or composite is None or composite.kind != "concat":
            table.freeze(dim, reason)
            continue
        index, start = numbers[0][0], 0
        element = index + table.size(dim)[0] if index < 0 else index
        for place, part in enumerate(composite.parts):
            size = table.size(part)[0]
            if start <= element < start + size:
                table.freeze(part, reason)
                behind, before = composite.parts[place:], composite.parts[:place]
                if index < 0:
                    context.require(node, 1, 0, behind, sign=-1, offset=element - start)
                elif before:
                    context.require(node, 1, 0, before, offset=element - start)
                break
            start += size


def _only_measured(node: ir.Node) -> bool:
    """Whether the first or last element is picked for no more than the shape of what is left."""
    indices = node.inputs[1]
    first_or_last = indices is not None and indices.const_value is not None and bool(
        np.isin(indices.const_value.numpy(), (0, -1)).all()
    )  # fmt: skip
    return first_or_last and all(measures(usage.node) for usage in node.outputs[0].uses())


def _is_shape(context: Context, value: ir.Value) -> bool:
    return value.name in context.observed.values


@rule("Slice")
def slice_(context: Context, node: ir.Node) -> None:
    """A full slice keeps the axis, a cut makes it a concat, a runtime bound makes a runtime axis."""
    value, output = node.inputs[0], node.outputs[0]
    assert value is not None
    dims = context.axes_of(value)
    bounds = _bounds(context, node, len(dims))
    result: list[MaybeDim] = list(dims)
    if bounds is None:
        for axis, (size, new) in enumerate(zip(context.sizes(value), context.sizes(output), strict=True)):
            if size != new:
                result[axis] = _unknown_part(context, node, dims[axis], new)
        context.set_axes(output, result)
        return
    for element, (axis, start, stop, step) in enumerate(bounds):
        dim, new = dims[axis], context.sizes(output)[axis]
        if dim is None:
            continue
        if new == context.table.size(dim) and step == 1:
            if context.table.is_static(dim) and not all(map(context.table.frozen, context.table.leaves(dim))):
                _need_bound(context, node, 1, element, start, [dim], 0)
                _need_bound(context, node, 2, element, stop, [dim], 1)
            continue
        if not context.table.is_static(dim) or new[0] != new[1]:
            result[axis] = context.table.leaf(new)
            continue
        result[axis] = _cut(context, node, element, dim, start, stop, step)
    context.set_axes(output, result)


def _bounds(context: Context, node: ir.Node, rank: int) -> list[tuple[int, int, int, int]] | None:
    """(axis, start, stop, step) per sliced axis as given in the first run; None where they are not known."""
    if len(node.inputs) == 1:  # before opset 10
        starts, stops = node.attributes["starts"].as_ints(), node.attributes["ends"].as_ints()
        axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(len(starts))
        return [(a % rank, s, e, 1) for a, s, e in zip(axes, starts, stops, strict=True)]
    columns: list[list[int] | None] = []
    for slot in range(1, 5):
        given = slot < len(node.inputs) and node.inputs[slot] is not None
        numbers = context.numbers(node.inputs[slot]) if given else None
        if given and numbers is None:
            return None
        columns.append(numbers[0] if numbers else None)
    starts_, stops_, axes_, steps_ = columns
    if starts_ is None or stops_ is None:
        return None
    axes_ = axes_ if axes_ is not None else list(range(len(starts_)))
    steps_ = steps_ if steps_ is not None else [1] * len(starts_)
    return [(a % rank, s, e, t) for a, s, e, t in zip(axes_, starts_, stops_, steps_, strict=True)]


def _unknown_part(context: Context, node: ir.Node, dim: MaybeDim, size: tuple[int, int]) -> MaybeDim:
    leaf = context.table.leaf(size)
    if dim is not None and context.table.is_static(dim):
        reason = Reason.at(Why.SLICE_BOUNDS, node)
        context.table.freeze(dim, reason)
        context.table.freeze(leaf, reason)
    return leaf


def _cut(context: Context, node: ir.Node, element: int, dim: int, start: int, stop: int, step: int) -> MaybeDim:
    table = context.table
    size = table.size(dim)[0]
    first = max(0, start + size if start < 0 else min(start, size))
    last = max(0, stop + size if stop < 0 else min(stop, size))
    if step > 1 and last == size and first < step and size % step == 0:
        # Every step-th element: the axis is (size / step) x step, and one index of the fast part is taken.
        pieces = table.split(dim, (step, step))
        if pieces is not None:
            table.freeze(pieces[1], Reason.at(Why.SLICE_STEP, node, number=step))
            return pieces[0]
    pieces_of = table.cut(dim, [first, last]) if step == 1 and first < last else None
    if pieces_of is None:
        reason = Reason.at(Why.SLICE_FIXED, node)
        leaf = table.leaf((max(0, last - first + abs(step) - 1) // abs(step),) * 2)
        table.freeze(dim, reason)
        table.freeze(leaf, reason)
        return leaf
    offsets = [0, *accumulate(table.size(piece)[0] for piece in pieces_of)]
    index = offsets.index(first)
    _need_bound(context, node, 1, element, start, pieces_of, index)
    _need_bound(context, node, 2, element, stop, pieces_of, index + 1)
    piece = pieces_of[index]
    if table.size(piece) == (1, 1):
        table.freeze(piece, Reason.at(Why.SLICE_ELEMENT, node))
        return None
    return piece


_BOUNDS = {1: "starts", 2: "ends"}  #: attributes that hold the bounds before opset 10, by input from then on


def _need_bound(
    context: Context, node: ir.Node, slot: int, element: int, value: int, pieces: list[int], index: int
) -> None:
    """A bound must follow the pieces before it, or with a minus sign those after it; beyond the end it stays beyond."""
    if abs(value) >= _HUGE or value == 0:
        return
    if slot < len(node.inputs):
        numbers = context.numbers(node.inputs[slot])
        if numbers is not None and numbers[0] != numbers[1]:
            return  # set at run time: where the axis ends all the same, it is clipped to it
    dims, sign = (pieces[:index], 1) if value > 0 else (pieces[index:], -1)
    length = sum(context.table.size(piece)[0] for piece in dims)
    beyond = sign * max(0, abs(value) - length)
    context.require(node, slot if slot < len(node.inputs) else _BOUNDS[slot], element, dims, sign=sign, offset=beyond)


@rule("Split")
def split(context: Context, node: ir.Node) -> None:
    """The axis is the concat of the outputs' axes."""
    dims = list(context.axes_of(node.inputs[0]))
    axis = axis_of(node, "axis", 0, len(dims))
    sizes = [context.sizes(output)[axis] for output in node.outputs]
    dim = dims[axis]
    pieces: list[int] | None = None
    if dim is not None and all(first == second for first, second in sizes):
        pieces = context.table.cut(dim, list(accumulate(first for first, _ in sizes))[:-1])
    if pieces is None or len(pieces) != len(sizes):
        context.table.freeze(dim, Reason.at(Why.SPLIT, node))
        for output, size in zip(node.outputs, sizes, strict=True):
            leaf = context.table.leaf(size)
            context.table.freeze(leaf, Reason.at(Why.SPLIT_PART, node))
            context.set_axes(output, [*dims[:axis], leaf, *dims[axis + 1 :]])
        return
    given = len(node.inputs) > 1 and node.inputs[1] is not None
    for element, (output, piece) in enumerate(zip(node.outputs, pieces, strict=True)):
        unit = context.table.size(piece) == (1, 1)
        context.set_axes(output, [*dims[:axis], None if unit else piece, *dims[axis + 1 :]])
        if given and not unit:
            context.require(node, 1, element, [piece])
        elif "split" in node.attributes and not unit:
            context.require_attribute(node, "split", element, [piece])


@rule("ReverseSequence")
def reverse(context: Context, node: ir.Node) -> None:
    """Order along an axis changes, sizes do not."""
    context.set_axes(node.outputs[0], broadcast(context, [context.axes_of(node.inputs[0])]))

"""If, Loop and Scan, their bodies inlined: what goes in and comes out of a body lines up with what is outside."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.rules.base import Axes, Context, rule
from bot_onnx._canonical.control_flow import entry_of, returned, scan_axes
from bot_onnx._ops import MARKS
from bot_onnx._reasons import Reason, Why


@rule(f"{MARKS}::If")
def branches(context: Context, node: ir.Node) -> None:
    """Both branches give the same axes; where they cannot, those keep their sizes."""
    for index, output in enumerate(node.outputs):
        sizes = context.sizes(output)
        sources = [context.axes_of(returned(node, branch)[index]) for branch in (0, 1)]
        fitting = [dims for dims in sources if len(dims) == len(sizes)]
        for dims in sources:
            if len(dims) != len(sizes) and fitting:
                _line_up(context, node, dims, fitting[0])
        result: list[MaybeDim] = []
        for axis, size in enumerate(sizes):
            result.append(_meet(context, [dims[axis] for dims in fitting if context.table.size(dims[axis]) == size]))
            others = [dims[axis] for dims in fitting if context.table.size(dims[axis]) != size]
            _freeze(context, others, Reason.at(Why.BRANCH_SIZES, node))
            if others:
                _freeze(context, [result[-1]], Reason.at(Why.BRANCH_SIZES, node))
        context.set_axes(output, result)


def _line_up(context: Context, node: ir.Node, dims: Axes, others: Axes) -> None:
    """A branch that gives another rank: where both have the same static axes in order, those line up."""
    table = context.table
    left, right = ([d for d in axes if d is not None and table.is_static(d)] for axes in (dims, others))
    if [table.size(dim) for dim in left] == [table.size(dim) for dim in right]:
        for a, b in zip(left, right, strict=True):
            table.unify(a, b)
    else:
        _freeze(context, [*left, *right], Reason.at(Why.BRANCH_RANKS, node))


@rule(f"{MARKS}::LoopEntry")
def loop_entry(context: Context, node: ir.Node) -> None:
    """Counter, condition, and the carried values as they come in."""
    for output in node.outputs[:2]:
        context.set_axes(output, [])
    for value, output in zip(node.inputs[2:], node.outputs[2:], strict=True):
        context.set_axes(output, context.axes_of(value))


@rule(f"{MARKS}::Loop")
def loop(context: Context, node: ir.Node) -> None:
    """Carried values come back as they went in; collected ones get an axis of iterations in front."""
    entry = entry_of(node)
    assert entry is not None
    carried = len(entry.inputs) - 2
    made = returned(node, 0)[1:]
    for index, (value, output) in enumerate(zip(made, node.outputs, strict=True)):
        if index < carried:
            _carry(context, node, entry.outputs[index + 2], value, output)
        else:
            _collect(context, output, context.axes_of(value), 0)


@rule(f"{MARKS}::ScanEntry")
def scan_entry(context: Context, node: ir.Node) -> None:
    """States as they come in, and slices of what is scanned."""
    count, axes = scan_axes(node)
    states = len(node.inputs) - count
    for index, (value, output) in enumerate(zip(node.inputs, node.outputs, strict=True)):
        dims = list(context.axes_of(value))
        if index >= states:
            _freeze(context, [dims.pop(axes[index - states] % len(dims))], Reason.at(Why.SCANNED, node))
        context.set_axes(output, dims)


@rule(f"{MARKS}::Scan")
def scan(context: Context, node: ir.Node) -> None:
    """States come back as they went in; slices are stacked."""
    entry = entry_of(node)
    assert entry is not None
    states = len(entry.inputs) - scan_axes(node)[0]
    axes = list(node.attributes["scan_output_axes"].as_ints()) if "scan_output_axes" in node.attributes else None
    for index, (value, output) in enumerate(zip(returned(node, 0), node.outputs, strict=True)):
        if index < states:
            _carry(context, node, entry.outputs[index], value, output)
        else:
            _collect(context, output, context.axes_of(value), axes[index - states] if axes else 0)


def _carry(context: Context, node: ir.Node, before: ir.Value, after: ir.Value | None, output: ir.Value) -> None:
    """One dim before an iteration, after it and at the end; a static one that changes on the way keeps its size."""
    reason = Reason.at(Why.CARRIED, node)
    first, last = context.axes_of(before), context.axes_of(after)
    if len(first) != len(last) or len(last) != len(context.sizes(output)):
        _freeze(context, [*first, *last], reason)
        context.new_axes(output, reason)
        return
    result: list[MaybeDim] = []
    for a, b, size in zip(first, last, context.sizes(output), strict=True):
        if context.table.size(a) == context.table.size(b):
            merged = context.table.unify(a, b)
            result.append(merged if context.table.size(merged) == size else context.table.leaf(size))
        else:
            _freeze(context, [a, b], reason)
            result.append(context.table.leaf(size))
    context.set_axes(output, result)


def _collect(context: Context, output: ir.Value, dims: Axes, axis: int) -> None:
    """Values of all iterations, stacked along a new axis."""
    sizes = context.sizes(output)
    if len(sizes) != len(dims) + 1:
        context.new_axes(output, Reason(Why.COLLECTED))
        return
    result: list[MaybeDim] = list(dims)
    place = axis % len(sizes)
    count = context.table.leaf(sizes[place])
    _freeze(context, [count], Reason(Why.ITERATIONS))
    result.insert(place, count)
    context.set_axes(output, result)


def _meet(context: Context, dims: list[MaybeDim]) -> MaybeDim:
    merged: MaybeDim = None
    for dim in dims:
        merged = context.table.unify(merged, dim)
    return merged


def _freeze(context: Context, dims: Axes | list[MaybeDim], reason: Reason) -> None:
    for dim in dims:
        if dim is not None and context.table.is_static(dim):
            context.table.freeze(dim, reason)

"""Ops that address an axis by computed positions: GatherND, GatherElements, ScatterND, TopK and their kin.

An axis that is addressed must keep its size; the others pass.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.rules.base import Axes, Context, axis_of, rule
from bot_onnx._reasons import Reason, Why


def _hold(context: Context, node: ir.Node, dims: Axes) -> None:
    for dim in dims:
        if dim is not None and context.table.is_static(dim):
            context.table.freeze(dim, Reason.at(Why.POSITION, node))


def _line_up(context: Context, node: ir.Node, left: Axes, right: Axes, skip: int) -> None:
    """Merge axes that are walked along together; one that is only partly walked along keeps its size."""
    for axis, (a, b) in enumerate(zip(left, right, strict=True)):
        if axis == skip:
            continue
        if context.table.size(a) == context.table.size(b):
            context.table.unify(a, b)
        else:
            _hold(context, node, (a, b))


@rule("GatherElements", "ScatterElements")
def elements(context: Context, node: ir.Node) -> None:
    """One axis is addressed; along all others data, indices and updates are walked along together."""
    data, indices = context.axes_of(node.inputs[0]), context.axes_of(node.inputs[1])
    axis = axis_of(node, "axis", 0, len(data))
    _hold(context, node, data[axis : axis + 1])
    _line_up(context, node, data, indices, axis)
    if node.op_type == "GatherElements":
        context.set_axes(node.outputs[0], indices)
        return
    _line_up(context, node, indices, context.axes_of(node.inputs[2]), -1)
    context.set_axes(node.outputs[0], data)


@rule("GatherND", "ScatterND")
def nd(context: Context, node: ir.Node) -> None:
    """The last axis of the indices says how many axes of the data are addressed; those behind them pass whole."""
    data, indices = context.axes_of(node.inputs[0]), context.axes_of(node.inputs[1])
    batch = node.attributes.get_int("batch_dims", 0)
    sizes = context.sizes(node.inputs[1]) if node.inputs[1] is not None else ()
    depth = sizes[-1][0]
    _line_up(context, node, data[:batch], indices[:batch], -1)
    _hold(context, node, data[batch : batch + depth])
    slices = (*indices[:-1], *data[batch + depth :])
    if node.op_type == "GatherND":
        context.set_axes(node.outputs[0], slices)
        return
    _line_up(context, node, slices, context.axes_of(node.inputs[2]), -1)
    context.set_axes(node.outputs[0], data)


@rule("TopK", "Compress")
def along_an_axis(context: Context, node: ir.Node) -> None:
    """Some of the elements along one axis are chosen; their number is a new axis."""
    data = context.axes_of(node.inputs[0])
    if node.op_type == "Compress" and "axis" not in node.attributes:
        _hold(context, node, data)
        context.new_axes(node.outputs[0], Reason.at(Why.POSITION, node))
        return
    axis = axis_of(node, "axis", -1, len(data))
    _hold(context, node, data[axis : axis + 1])
    chosen: MaybeDim = context.table.leaf(context.sizes(node.outputs[0])[axis])
    context.table.freeze(chosen, Reason.at(Why.CHOSEN, node))
    for output in node.outputs:
        if output.name:
            context.set_axes(output, [*data[:axis], chosen, *data[axis + 1 :]])


@rule("Unique", "NonMaxSuppression")
def whole(context: Context, node: ir.Node) -> None:
    """What comes out depends on the content of the whole."""
    _hold(context, node, context.axes_of(node.inputs[0]))
    for output in node.outputs:
        if output.name:
            context.new_axes(output, Reason.at(Why.POSITION, node))

"""Walk the graph once and give every axis of every tensor a dim."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import INPUT, DimTable
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.rules import Context, apply, hold_picked
from bot_onnx._axes.rules.layout import squeezed_axes
from bot_onnx._axes.shape_values import ShapeValues
from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._ops.nodes import node_inputs
from bot_onnx._reasons import Reason, Why
from bot_onnx._runs.observe import holds_sequence

RUNTIME = "set at run time by the input"


def analyse_axes(model: ir.Model, observed: Observation) -> AxisFacts:
    """Axes of every value of ``model``, and the numbers in the graph that must follow them."""
    table = DimTable()
    context = Context(table, observed, ShapeValues(table.size, observed.values), opsets=model.opset_imports)
    for value in model.graph.inputs:
        for dim in context.axes_of(value):
            table.freeze(dim, INPUT)
    for node in model.graph:
        unseen = any(output.name and output.name not in observed.shapes for output in node.outputs)
        if unseen and not _foresee(context, node):
            _pass_over(context, node)
            continue
        apply(context, node)
        context.shapes.visit(node, context.axes_of)
    hold_picked(context)
    return context.facts()


def _foresee(context: Context, node: ir.Node) -> bool:
    """Note the shape that a Squeeze in a branch that did not run would have made; whether that can be told."""
    value = node.inputs[0] if node.inputs else None
    axes = squeezed_axes(context, node) if value is not None and value.name in context.observed.shapes else None
    if value is None or axes is None:
        return False
    left = tuple(size for axis, size in enumerate(context.sizes(value)) if axis not in axes)
    context.observed.shapes[node.outputs[0].name or ""] = left
    return True


def _pass_over(context: Context, node: ir.Node) -> None:
    """A node whose results have no known shape: what it reads keeps its static sizes, what it makes has no axes."""
    context.unknown.append(node)
    sequences = any(map(holds_sequence, node.outputs))
    reason = Reason.at(Why.SEQUENCE if sequences else Why.UNRUN, node)
    for value in node_inputs(node):
        for dim in context.axes_of(value):
            if dim is not None and context.table.is_static(dim):
                context.table.freeze(dim, reason)

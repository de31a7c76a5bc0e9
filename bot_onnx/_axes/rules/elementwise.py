"""Ops that work element by element (with broadcasting), along one axis without changing it, or that reduce axes."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.facts import ValueAxes
from bot_onnx._axes.rules.base import Context, axis_of, broadcast, rule
from bot_onnx._ops import Axes, keys, record


@rule(*keys(lambda op: op.axes is Axes.BROADCAST))
def elementwise(context: Context, node: ir.Node) -> None:
    """Axes line up from the right; equal ones are the same dim."""
    merged = broadcast(context, [context.axes_of(value) for value in node.inputs if value is not None])
    for output in node.outputs:
        context.set_axes(output, merged)


@rule(*keys(lambda op: op.axes is Axes.FIRST))
def like_first(context: Context, node: ir.Node) -> None:
    """The outputs have the axes of the first input."""
    dims = context.axes_of(node.inputs[0])
    for output in node.outputs:
        context.set_axes(output, dims)


@rule("com.microsoft::BiasSoftmax")
def bias_softmax(context: Context, node: ir.Node) -> None:
    """Softmax of scores with something added that broadcasts to them."""
    broadcast(context, [context.axes_of(value) for value in node.inputs])
    context.set_axes(node.outputs[0], context.axes_of(node.inputs[0]))


@rule(*keys(lambda op: op.axes is Axes.REDUCED))
def reduction(context: Context, node: ir.Node) -> None:
    """Reduced axes become 1 or go; the others stay."""
    value = node.inputs[0]
    assert value is not None
    dims = list(context.axes_of(value))
    axes = reduced_axes(context, node, len(dims))
    keep = node.attributes.get_int("keepdims", 1)
    if keep:
        result = [None if axis in axes else dim for axis, dim in enumerate(dims)]
    else:
        result = [dim for axis, dim in enumerate(dims) if axis not in axes]
    for output in node.outputs:
        context.set_axes(output, result)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(context: Context, node: ir.Node) -> None:
    """A reduction of all but the first two axes; what lies on these need not be an image (a norm spelled out)."""
    dims = context.axes_of(node.inputs[0])
    context.set_axes(node.outputs[0], [*dims[:2], *(None for _ in dims[2:])])


def reduced_axes(context: ValueAxes, node: ir.Node, rank: int) -> set[int]:
    """Axes that a reduction makes 1, or drops."""
    if (chosen := record(node).chooses) is not None:
        return {axis_of(node, "axis", chosen, rank)}
    axes: list[int] | None = None
    if "axes" in node.attributes:
        axes = list(node.attributes["axes"].as_ints())
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        numbers = context.numbers(node.inputs[1])
        axes = numbers[0] if numbers else None
    if not axes:
        return set() if node.attributes.get_int("noop_with_empty_axes", 0) else set(range(rank))
    return {axis % rank for axis in axes}


@rule("LayerNormalization", "RMSNormalization")
def layer_normalization(context: Context, node: ir.Node) -> None:
    """Scale and bias lie on the trailing axes, from ``axis`` on."""
    value = node.inputs[0]
    assert value is not None
    dims = context.axes_of(value)
    axis = axis_of(node, "axis", -1, len(dims))
    for parameter in node.inputs[1:]:
        if parameter is not None:
            broadcast(context, [dims[axis:], context.axes_of(parameter)])
    context.set_axes(node.outputs[0], dims)
    for output in node.outputs[1:]:
        if output.name:
            context.set_axes(output, [dim if i < axis else None for i, dim in enumerate(dims)])

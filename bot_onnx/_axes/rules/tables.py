"""Ops that make tensors from sizes: Shape, Range, ConstantOfShape, OneHot and random generators."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.rules.base import Context, rule
from bot_onnx._reasons import Reason, Why


@rule("Shape", "Size", "NonZero")
def fresh(context: Context, node: ir.Node) -> None:
    """Axes of their own."""
    for output in node.outputs:
        context.new_axes(output)


@rule("EyeLike", "Bernoulli", "RandomNormalLike", "RandomUniformLike")
def like_input(context: Context, node: ir.Node) -> None:
    """Those of the input."""
    context.set_axes(node.outputs[0], context.axes_of(node.inputs[0]))


@rule("ConstantOfShape", "RandomNormal", "RandomUniform")
def filled(context: Context, node: ir.Node) -> None:
    """Every axis is the dim that its size names, or a new one that the size must follow."""
    output = node.outputs[0]
    shape = node.inputs[0] if node.inputs else None
    result: list[MaybeDim] = []
    for axis, size in enumerate(context.sizes(output)):
        named = context.size_dim(shape, axis)
        result.append(named if named is not None and size != (1, 1) else context.table.leaf(size))
    context.set_axes(output, result)
    if shape is None:
        for dim in result:
            context.table.freeze(dim, Reason.at(Why.ATTRIBUTE, node))
        return
    for axis, dim in enumerate(result):
        if dim is not None and context.numbers(shape) is not None:
            context.require(node, 0, axis, [dim])


@rule("Range")
def range_(context: Context, node: ir.Node) -> None:
    """``0 … n``: the dim whose size ``n`` is; its content is positions along it."""
    output = node.outputs[0]
    named = context.size_dim(node.inputs[1], 0)
    size = context.sizes(output)[0]
    if named is not None and context.table.size(named) == size:
        context.set_axes(output, [named])
        return
    context.new_axes(output, Reason.at(Why.FIXED_RANGE, node) if size[0] == size[1] else None)


@rule("OneHot")
def one_hot(context: Context, node: ir.Node) -> None:
    """A new axis whose size is a fixed number of classes."""
    output = node.outputs[0]
    context.new_axes(output, Reason.at(Why.CLASSES, node))

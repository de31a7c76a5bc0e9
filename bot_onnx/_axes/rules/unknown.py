"""Ops without a rule: what a run of the op alone shows, else every static size around it is frozen by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.rules.base import Context
from bot_onnx._ops.nodes import node_inputs
from bot_onnx._reasons import Reason, Why
from bot_onnx._runs.probe import Alignment, Operand, Place, probe

_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_SMALL = 64  #: elements up to which an integer constant is taken for an argument of the op and keeps its values


def follow_unknown(context: Context, node: ir.Node, key: str) -> None:
    """Set the axes of the outputs of a node whose op has no rule."""
    context.unknown.append(node)
    alignments = _probed(context, node)
    if alignments is None:
        _freeze_around(context, node, Reason(Why.NO_RULE, key, node.name or ""))
        return
    outputs = [output for output in node.outputs if output.name]
    made: dict[Place, MaybeDim] = {}
    for alignment in alignments:
        dims = [context.axes_of(node.inputs[slot])[axis] for slot, axis in alignment.inputs]
        if alignment.problem is not None:
            for dim in dims:
                _freeze(context, dim, Reason(alignment.problem, key, node.name or ""))
            continue
        merged: MaybeDim = None
        for dim in dims:
            merged = context.table.unify(merged, dim)
        made.update(dict.fromkeys(alignment.outputs, merged))
        if not alignment.outputs and len(dims) > 1:
            context.contracted[node] = merged
    for index, output in enumerate(outputs):
        result: list[MaybeDim] = []
        for axis, size in enumerate(context.sizes(output)):
            leaf = made.get((index, axis))
            if leaf is None:
                leaf = context.table.leaf(size)
                _freeze(context, leaf, Reason(Why.OP_SETS_SIZE, key, node.name or ""))
            result.append(leaf)
        context.set_axes(output, result)


def _freeze(context: Context, dim: MaybeDim, reason: Reason) -> None:
    if dim is not None and context.table.is_static(dim):
        context.table.freeze(dim, reason)


def _freeze_around(context: Context, node: ir.Node, reason: Reason) -> None:
    """Every static size of what the node reads, in its bodies too, and of what it makes."""
    for value in node_inputs(node):
        for dim in context.axes_of(value):
            context.table.freeze(dim, reason)
    for output in node.outputs:
        context.new_axes(output, reason)


def _probed(context: Context, node: ir.Node) -> list[Alignment] | None:
    """What a run of the op alone shows; nodes that are alike are run once."""
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    ):
        return None
    if any(value is not None and value.name not in context.observed.shapes for value in node.inputs):
        return None  # a sequence of tensors
    operands = [_operand(context, value) for value in node.inputs]
    attributes = sorted((name, repr(attribute.value)) for name, attribute in node.attributes.items())
    outputs = tuple(bool(output.name) for output in node.outputs)
    signature = (node.domain, node.op_type, tuple(map(_signature, operands)), tuple(attributes), outputs)
    if signature not in context.probed:
        context.probed[signature] = probe(node, operands, context.opsets)
    return context.probed[signature]


def _operand(context: Context, value: ir.Value | None) -> Operand | None:
    if value is None:
        return None
    shape = tuple(first for first, _ in context.sizes(value))
    tensor = value.const_value
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    if tensor is not None and tensor.size <= _SMALL and (tensor.dtype.is_integer() or tensor.size == 1):
        return Operand(shape, dtype, tensor.numpy())
    pair = context.observed.values.get(value.name or "")
    if pair is not None:
        return Operand(shape, pair[0].dtype, pair[0])
    return Operand(shape, dtype)


def _signature(operand: Operand | None) -> object:
    if operand is None:
        return None
    value: Sequence[object] | None = None if operand.value is None else np.asarray(operand.value).reshape(-1).tolist()
    return operand.shape, operand.dtype.str, None if value is None else tuple(value)

"""Experts that a router picks, as one op: onnxruntime's MoE.

Every expert is two matrices ``[experts, out, in]`` (three, where a gate stands beside the first) with biases. How many
there are is a count: which of them serve a token is decided by rank, and copies would take each other's place.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import EQUAL_PARTS, MaybeDim
from bot_onnx._axes.rules.base import Axes, Context, rule
from bot_onnx._reasons import Reason, Why

#: Op, and the slots of its matrices, biases, and scores.
MOE = "com.microsoft::MoE"
MATRICES = (2, 4, 6)
BIASES = (3, 5, 7)
SCORES = 1
_INTERLEAVED, _GATED = 1, 2


@rule(MOE)
def experts(context: Context, node: ir.Node) -> None:
    """[…, hidden] x [experts, inner, hidden] x [experts, hidden, inner]; inner twice where a gate is packed with it."""
    table = context.table
    data = context.axes_of(node.inputs[0])
    first, second, third = (_operand(context, node, slot) for slot in MATRICES)
    hidden = table.unify(data[-1], first[2])
    inner = table.unify(second[2], third[1] if third else None)
    table.unify(hidden, second[1])
    if third:
        table.unify(hidden, third[2])
    packed = _packed(context, node, first[1], inner)
    number: MaybeDim = context.axes_of(node.inputs[SCORES])[-1]
    for dims in (first, second, third):
        number = table.unify(number, dims[0]) if dims else number
    for slot, width in zip(BIASES, (packed, hidden, inner), strict=True):
        bias = _operand(context, node, slot)
        if bias:
            table.unify(number, bias[0])
            table.unify(width, bias[1])
    table.freeze(number, Reason.at(Why.RANKED, node))
    context.set_axes(node.outputs[0], (*data[:-1], hidden))


def _operand(context: Context, node: ir.Node, slot: int) -> Axes:
    return context.axes_of(node.inputs[slot]) if slot < len(node.inputs) else ()


def _packed(context: Context, node: ir.Node, made: MaybeDim, inner: MaybeDim) -> MaybeDim:
    """What the first matrix makes: inner, or gate and inner, in halves or by turns."""
    table = context.table
    if made is None or inner is None or table.size(made) == table.size(inner):
        return table.unify(made, inner)
    if node.attributes.get_int("swiglu_fusion", 0) == _INTERLEAVED:
        pieces = table.split(made, (_GATED, _GATED))
        if pieces is not None:
            table.unify(pieces[0], inner)
            table.freeze(pieces[1], EQUAL_PARTS)
            return made
    else:
        halves = table.cut(made, [table.size(inner)[0]])
        if halves is not None and len(halves) == _GATED:
            for half in halves:
                table.unify(half, inner)
            return made
    table.freeze(made, Reason.at(Why.GATE_PACKED, node))
    return made

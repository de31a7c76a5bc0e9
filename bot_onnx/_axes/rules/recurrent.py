"""Recurrent layers: LSTM, GRU, RNN.

The gates lie packed along one axis, ``gates x hidden``: a count of them, never mixed. The hidden state feeds back into
itself, so both ends of the recurrence matrix are one dim; the directions of a bidirectional layer are a count too, and
share the hidden size.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import EQUAL_PARTS, MaybeDim
from bot_onnx._axes.rules.base import Axes, Context, rule
from bot_onnx._ops import keys, record
from bot_onnx._ops.recurrent import BIAS, CELL, INPUT_WEIGHT, LENGTHS, PEEPHOLES, STATE, STATE_WEIGHT
from bot_onnx._reasons import Reason, Why

_PEEPHOLE_GATES = 3


@rule(*keys(lambda op: op.gates > 0))
def recurrent(context: Context, node: ir.Node) -> None:
    """X [time, batch, in], W [directions, gates * hidden, in] and R [directions, gates * hidden, hidden]."""
    table = context.table
    gates = record(node).gates
    data = context.axes_of(node.inputs[0])
    weight, state_weight = context.axes_of(node.inputs[INPUT_WEIGHT]), context.axes_of(node.inputs[STATE_WEIGHT])
    hidden = state_weight[2]
    context.contracted[node] = table.unify(data[2], weight[2])
    packed = _packed(context, [gates], hidden)
    directions: MaybeDim = None
    for dims, expected in (
        (weight, packed),
        (state_weight, packed),
        (_input(context, node, BIAS), _packed(context, [2, gates], hidden)),
        (_input(context, node, PEEPHOLES), _packed(context, [_PEEPHOLE_GATES], hidden)),
    ):
        if dims:
            directions = table.unify(directions, dims[0])
            table.unify(dims[1], expected)
    if directions is not None:
        table.freeze(directions, Reason.at(Why.DIRECTIONS, node))
    batch_first = node.attributes.get_int("layout", 0) == 1
    time, batch = (data[1], data[0]) if batch_first else (data[0], data[1])
    state = [batch, directions, hidden] if batch_first else [directions, batch, hidden]
    for slot in (STATE, CELL):
        for ours, given in zip(state, _input(context, node, slot), strict=False):
            table.unify(ours, given)
    lengths = _input(context, node, LENGTHS)
    table.unify(batch, lengths[0] if lengths else None)
    whole = [batch, time, directions, hidden] if batch_first else [time, directions, batch, hidden]
    for index, output in enumerate(node.outputs):
        if output.name:
            context.set_axes(output, whole if index == 0 else state)
    if "hidden_size" in node.attributes and hidden is not None:
        context.require_attribute(node, "hidden_size", 0, [hidden])


def _input(context: Context, node: ir.Node, slot: int) -> Axes:
    return context.axes_of(node.inputs[slot]) if slot < len(node.inputs) else ()


def _packed(context: Context, counts: list[int], hidden: MaybeDim) -> MaybeDim:
    """``count x … x hidden``; the counts are numbers of things."""
    parts: list[MaybeDim] = []
    for number in counts:
        if number > 1:
            count = context.table.part(number)
            context.table.freeze(count, EQUAL_PARTS)
            parts.append(count)
    return context.table.product([*parts, hidden])

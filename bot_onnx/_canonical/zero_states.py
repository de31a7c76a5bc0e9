"""Initial states of recurrent layers that are zero anyway: dropped.

Exporters write them out: one tensor of zeros for all the layers, of which every layer takes a slice. An absent state is
zero by definition, and without it the layers are alike.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._ops import ANY_MOVE, Move, data_slots, passes_on, record
from bot_onnx._ops.recurrent import CELL, STATE
from bot_onnx._ops.walk import backward

_SHAPING = ANY_MOVE & ~Move.PADDED


def drop_zero_states(graph: ir.Graph) -> None:
    """Remove initial states that are zeros, in place; what computed them is left for others to remove."""
    for node in graph:
        if not record(node).gates:
            continue
        for slot in (STATE, CELL):
            if slot < len(node.inputs) and node.inputs[slot] is not None and _is_zero(node.inputs[slot]):
                node.replace_input_with(slot, None)


def _is_zero(value: ir.Value | None) -> bool:
    """Whether every element is zero whatever the inputs are."""
    parts = backward(value, _shapes, lambda node: [node.inputs[slot] for slot in data_slots(node)])
    return value is not None and all(map(_made_of_zeros, parts))


def _shapes(node: ir.Node) -> bool:
    return not record(node).fills and passes_on(node, _SHAPING)


def _made_of_zeros(value: ir.Value) -> bool:
    """Whether a value is zero if what it is a form of is."""
    tensor, node = value.const_value, value.producer()
    if tensor is not None:
        return not np.any(tensor.numpy() != 0)  # whatever the length: a resized file is read as its source was
    if node is None or not record(node).fills:
        return node is not None and _shapes(node) and all(node.inputs[slot] is not None for slot in data_slots(node))
    fill = node.attributes.get("value")
    return fill is None or not np.any(fill.as_tensor().numpy() != 0)

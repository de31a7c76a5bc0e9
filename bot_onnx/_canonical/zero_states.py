"""Initial states of recurrent layers that are zero anyway: dropped.

Exporters write them out: one tensor of zeros for all the layers, of which every layer takes a slice. An absent state is
zero by definition, and without it the layers are alike.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._ops import ANY_MOVE, Move, data_slots, passes_on, record
from bot_onnx._ops.recurrent import CELL, STATE

_SHAPING = ANY_MOVE & ~Move.PADDED
_HELD = 1 << 16  #: elements up to which a tensor is looked at


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
    pending = [value]
    while pending:
        current = pending.pop()
        if current is None:
            return False
        tensor = current.const_value
        if tensor is not None:
            if tensor.size > _HELD or np.any(tensor.numpy() != 0):
                return False
            continue
        node = current.producer()
        if node is None:
            return False
        if record(node).fills:
            fill = node.attributes.get("value")
            if fill is not None and np.any(fill.as_tensor().numpy() != 0):
                return False
        elif passes_on(node, _SHAPING):
            pending.extend(node.inputs[slot] for slot in data_slots(node))
        else:
            return False
    return True

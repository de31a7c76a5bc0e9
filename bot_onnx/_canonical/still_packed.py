"""Find packed weights that could not be turned into floating point."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._ops import ANY_MOVE, Move, data_slots, passes_on, record
from bot_onnx._ops.walk import behind

_MOVED = ANY_MOVE & ~Move.UNPACKED & ~Move.CAST  #: as the packed numbers that they are


def quantised_weight(graph: ir.Graph) -> tuple[str, str] | None:
    """The first packed weight of a graph as (initializer, what reads it), or None.

    A packed weight is an integer (or 8-bit float) initializer of two or more axes that a quantised op reads, directly
    or after something has moved its numbers: they mean nothing without scale and zero point, and cannot be resampled.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if record(node).packing is None:
            continue
        for value in node.inputs:
            packed = _packed_behind(value)
            if packed is not None and packed.const_value is not None:
                kind = packed.const_value.dtype.name
                return packed.name or "", f"{kind} in {node.op_type}, node {node.name!r}"
    return None


def _packed_behind(value: ir.Value | None) -> ir.Value | None:
    def moved(node: ir.Node) -> bool:
        return passes_on(node, _MOVED) and bool(node.inputs)

    stored = behind(value, moved, lambda node: node.inputs[data_slots(node)[0]])
    tensor = None if stored is None else stored.const_value
    if tensor is None or tensor.dtype == ir.DataType.BOOL:
        return None
    return stored if tensor.size > 1 and len(tensor.shape) > 1 and tensor.dtype.bitwidth <= 8 else None

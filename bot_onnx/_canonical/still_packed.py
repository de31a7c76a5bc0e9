"""Find packed weights that could not be turned into floating point."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._ops import ANY_MOVE, Move, data_slots, passes_on, record

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
    for _ in range(16):
        if value is None:
            return None
        tensor = value.const_value
        if tensor is not None:
            small = tensor.size > 1 and len(tensor.shape) > 1 and tensor.dtype.bitwidth <= 8
            return value if small and tensor.dtype != ir.DataType.BOOL else None
        node = value.producer()
        if node is None or not passes_on(node, _MOVED) or not node.inputs:
            return None
        value = node.inputs[data_slots(node)[0]]
    return None

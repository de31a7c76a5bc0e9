"""Tell quantised weights from tables of integers."""

from __future__ import annotations

import onnx_ir as ir

_OPS = frozenset(
    "DequantizeLinear MatMulInteger ConvInteger QLinearMatMul QLinearConv QGemm MatMulNBits GatherBlockQuantized "
    "DynamicQuantizeMatMul MatMulIntegerToFloat QAttention".split()
)


def quantised_weight(graph: ir.Graph) -> tuple[str, str] | None:
    """The first packed weight of a graph as (initializer, type), or None.

    A packed weight is an integer (or 8-bit float) initializer with more than one element that a quantised op reads as
    its data or weight: its values mean nothing without scale and zero point, and cannot be resampled.
    """
    for node in graph:
        if node.op_type not in _OPS:
            continue
        for value in node.inputs:
            tensor = value.const_value if value is not None else None
            if tensor is not None and tensor.size > 1 and len(tensor.shape) > 1 and tensor.dtype.bitwidth <= 8:
                return value.name or "", tensor.dtype.name  # type: ignore[union-attr]
    return None

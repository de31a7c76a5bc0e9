"""Dequantisation that a script spelled out: ``(Cast(integers) - zero point) * scale`` is one DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._ops import VIEW, Calc, computes, passes_on, reads_weights
from bot_onnx._ops.nodes import names_in

_PACKED = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4})
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True, slots=True)
class _Packed:
    """Integers of a weight, the constant that is subtracted from them (None: 0), and the constant behind it."""

    stored: ir.Value
    shift: NDArray[Any] | None
    factor: NDArray[Any]


def name_dequantisation(graph: ir.Graph) -> None:
    """Write spelled-out dequantisation of weights as DequantizeLinear, in place, where a scale a channel will do."""
    taken: set[str] = set()
    for node in list(graph):
        if not computes(node, Calc.PRODUCT, Calc.QUOTIENT) or node.graph is not graph:
            continue
        packed = _packed(node)
        if packed is None or not _is_weight(node.outputs[0]):
            continue
        shape = tuple(packed.stored.const_value.shape.numpy())  # type: ignore[union-attr]
        scale = _channels(packed.factor, shape)
        shift = None if packed.shift is None else _channels(packed.shift, shape)
        if scale is None or (packed.shift is not None and shift is None):
            continue
        axis = scale[1] if shift is None or scale[1] is not None else shift[1]
        if shift is not None and shift[1] not in (None, axis):
            continue
        taken = taken or names_in(graph)
        site = Site(graph, node, taken)
        count = 1 if axis is None else shape[axis]
        inputs = [packed.stored, site.constant(_wide(scale[0], axis, count), "scale")]
        if shift is not None:
            zero = _wide(shift[0], axis, count).astype(packed.stored.const_value.numpy().dtype)  # type: ignore[union-attr]
            inputs.append(site.constant(zero, "zero_point"))
        site.replace(site.op("DequantizeLinear", *inputs, attributes={} if axis is None else {"axis": axis}))


def _packed(node: ir.Node) -> _Packed | None:
    """What a product (or quotient) scales, if that is a weight of small integers and a constant."""
    first, second = node.inputs[0], node.inputs[1]
    for value, other in ((first, second), (second, first)):
        factor = _constant(other)
        if value is None or factor is None or (node.op_type == "Div" and value is not first):
            continue
        shift = None
        inner = value.producer()
        if inner is not None and inner.op_type == "Sub":
            shift = _constant(inner.inputs[1])
            if shift is None or not np.array_equal(shift, np.rint(shift)):
                continue
            inner = None if inner.inputs[0] is None else inner.inputs[0].producer()
        stored = inner.inputs[0] if inner is not None and inner.op_type == "Cast" else None
        tensor = None if stored is None else stored.const_value
        if stored is None or tensor is None or tensor.dtype not in _PACKED or tensor.size < 2:
            continue
        if shift is not None and not _fits(shift, tensor.dtype):
            continue
        return _Packed(stored, shift, factor if node.op_type == "Mul" else 1 / factor)
    return None


def _is_weight(value: ir.Value) -> bool:
    """Whether an op computes with the value as with a weight; masks are stored as small integers, too."""
    readers = [usage.node for usage in value.uses()]
    return any(reads_weights(node) or (passes_on(node, VIEW) and _is_weight(node.outputs[0])) for node in readers)


def _constant(value: ir.Value | None) -> NDArray[Any] | None:
    """A constant of floats, or of integers that are cast to floats."""
    if value is None:
        return None
    node = value.producer()
    if node is not None and node.op_type == "Cast" and node.inputs[0] is not None:
        value = node.inputs[0]
    elif value.const_value is not None and value.const_value.dtype not in _FLOATS:
        return None
    return None if value.const_value is None else np.asarray(value.const_value.numpy())


def _fits(numbers: NDArray[Any], dtype: ir.DataType) -> bool:
    unsigned = dtype in (ir.DataType.UINT8, ir.DataType.UINT4)
    low, high = (
        (0, (1 << dtype.bitwidth) - 1) if unsigned else (-(1 << dtype.bitwidth - 1), (1 << dtype.bitwidth - 1) - 1)
    )
    return bool(low <= numbers.min() and numbers.max() <= high)


def _channels(numbers: NDArray[Any], shape: tuple[int, ...]) -> tuple[NDArray[Any], int | None] | None:
    """Numbers as a vector, and the one axis of ``shape`` along which they differ (None: one for all)."""
    if numbers.ndim > len(shape):
        return None
    wide = [axis - numbers.ndim + len(shape) for axis, size in enumerate(numbers.shape) if size > 1]
    if len(wide) > 1 or any(shape[axis] != numbers.size for axis in wide):
        return None
    return numbers.reshape(-1), wide[0] if wide else None


def _wide(numbers: NDArray[Any], axis: int | None, count: int) -> NDArray[Any]:
    """A scalar where there is no axis, else a vector along it."""
    return numbers.reshape(()) if axis is None else np.broadcast_to(numbers, (count,)).copy()

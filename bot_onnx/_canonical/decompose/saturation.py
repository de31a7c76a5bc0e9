"""Activations that a quantiser left to the rounding: numbers saturate, so that a range from 0 is a Relu.

onnxruntime's static quantiser removes a Relu (or a Clip to 0 and 6) in front of a rounding whose range begins at 0.
When the rounding goes, it has to come back, or the network would be a linear one.
"""

from __future__ import annotations

from math import isclose

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._ops import keeps_sign, operands_of, record
from bot_onnx._ops.walk import backward

_SIX = 6.0
_FURTHEST = 64  #: values that are looked at behind one


def saturated(site: Site, value: ir.Value, scale: ir.Value | None, zero_point: ir.Value | None) -> ir.Value:
    """``value`` as the rounding of ``site`` leaves it but for its steps: behind a Relu, or a Clip to 0 and 6.

    What the world provides, and what is never negative, stays as it is.

    Args:
        site: the op that rounds. value: floats. scale, zero_point: of the result; None: 1, and 0 of 8 bits.
    """
    bounds = _integers(site, zero_point)
    if bounds is None or value.producer() is None or _never_negative(value):
        return value
    zero, least, most = bounds
    if zero != least:
        return value
    step = None if scale is None or scale.const_value is None else scale.const_value.numpy()
    if step is not None and step.size == 1 and isclose(float(step.reshape(-1)[0]) * (most - least), _SIX, rel_tol=1e-5):
        dtype = np.dtype(ir.DataType(value.dtype or ir.DataType.FLOAT).numpy())
        return site.op("Clip", value, *(site.constant(np.array(end, dtype), "bound") for end in (0.0, _SIX)))
    return site.op("Relu", value)


def _integers(site: Site, zero_point: ir.Value | None) -> tuple[int, int, int] | None:
    """Zero point (one for all), least and largest integer; None where they are computed, or no integers."""
    if zero_point is None:
        return None if site.node.attributes.get_int("output_dtype", 0) else (0, 0, 255)
    tensor = zero_point.const_value
    if tensor is None or not tensor.dtype.is_integer() or tensor.size == 0:
        return None
    array = np.asarray(tensor.numpy()).reshape(-1).astype(np.int64)
    bits = tensor.dtype.bitwidth
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if tensor.dtype.is_signed() else (0, (1 << bits) - 1)
    return (int(array[0]), least, most) if (array == array[0]).all() else None


def _never_negative(value: ir.Value) -> bool:
    """Whether no input makes a number of ``value`` negative, as far as ops say it."""
    parts = backward(value, keeps_sign, lambda node: [node.inputs[slot] for slot in operands_of(node)])
    for number, current in enumerate(parts):
        node = current.producer()
        if number == _FURTHEST or not (_is_positive(current) if node is None else _gives_positive(node)):
            return False
    return True


def _gives_positive(node: ir.Node) -> bool:
    """Whether what a node makes is never negative, if what it reads is not."""
    if node.op_type == "Clip":
        return len(node.inputs) > 1 and _is_positive(node.inputs[1])
    return keeps_sign(node) or record(node).positive


def _is_positive(value: ir.Value | None) -> bool:
    tensor = None if value is None else value.const_value
    return tensor is not None and tensor.size <= _FURTHEST and not (np.asarray(tensor.numpy()) < 0).any()

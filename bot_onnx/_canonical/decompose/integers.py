"""Products of integers: the scales follow as factors, and belong to the counterparts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._canonical.decompose.counterparts import Quantised, decomposes, product
from bot_onnx._ops import Calc, Move, computes, data_slots, is_sum, passes_on, record
from bot_onnx._ops.walk import behind, producer_chain


@decomposes("MatMulInteger", "ConvInteger")
def _integer_product(state: Quantised, site: Site) -> bool:
    """``Cast(a @ b + c) * (scale_a * scale_b)`` becomes the product of the counterparts, plus what ``c`` rounds."""
    node = site.node
    data = state.floats.get(site.need(0))
    scaled = _scaled(node)
    if data is None or scaled is None:
        return False
    last, factors, addend = scaled
    bias = None if addend is None else _unrounded(addend, factors)
    if addend is not None and bias is None:
        return False
    own = _rounding(site.need(0))
    other = site.need(1)
    if own is None or own[0] not in factors or site.input(2) is not own[1]:
        return False
    scales = [factor for factor in factors if factor is not own[0]]
    if len(scales) != 1:
        return False
    if other.const_value is not None:
        if scales[0].const_value is None:
            return False
        axis = len(other.const_value.shape) - 1 if node.op_type == "MatMulInteger" else 0
        weight = state.weight(site, other, _flat(site, scales[0]), _zero_point(site), axis)
    else:
        weight = state.floats.get(other) if _rounding(other) == (scales[0], site.input(3)) else None
    if weight is None:
        return False
    kept = {name: attribute.value for name, attribute in node.attributes.items()}
    behind = Site(state.graph, last, state.taken)
    if node.op_type == "ConvInteger" and bias is not None and _is_vector(bias):
        made = behind.op("Conv", data, weight, bias, attributes=kept)
    else:
        made = behind.op("MatMul" if node.op_type == "MatMulInteger" else "Conv", data, weight, attributes=kept)
        if bias is not None:
            made = behind.op("Add", made, _form(behind, addend, bias))
    behind.replace(made)
    return True


def _rounding(value: ir.Value) -> tuple[ir.Value | None, ir.Value | None] | None:
    """Scale and zero point that a value was quantised with."""
    made = behind(value, lambda node: record(node).alike and data_slots(node) == (0,))
    node = None if made is None else made.producer()
    if node is None or node.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear"):
        return None
    if node.op_type == "DynamicQuantizeLinear":
        return node.outputs[1], node.outputs[2]
    return node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None


def _zero_point(site: Site) -> ir.Value | None:
    value = site.input(3)
    return None if value is None else _flat(site, value)


def _flat(site: Site, value: ir.Value) -> ir.Value:
    """Scales as a vector (a convolution has them in the shape of its output)."""
    tensor = value.const_value
    if tensor is None or len(tensor.shape) < 2:
        return value
    return site.constant(np.asarray(tensor.numpy()).reshape(-1), "scales")


_FORMS = Move.KEPT | Move.RESHAPED


def _keeps_bias(node: ir.Node) -> bool:
    """Whether what a node makes of a bias is the bias, rounded, or in another form or type."""
    return computes(node, Calc.ROUNDING) or passes_on(node, _FORMS | Move.CAST)


def _unrounded(addend: ir.Value | None, factors: list[ir.Value]) -> ir.Value | None:
    """The bias that was divided by the scales and rounded to be added to a product of integers."""
    made = behind(addend, _keeps_bias)
    node = None if made is None else made.producer()
    if node is None or node.op_type != "Div" or node.inputs[1] is None:
        return None
    same = sorted(map(id, _leaves(node.inputs[1]))) == sorted(map(id, factors))
    return node.inputs[0] if same else None


def _is_vector(bias: ir.Value) -> bool:
    """Whether a bias is one number for each channel, as a convolution takes it."""
    return bias.const_value is not None and len(bias.const_value.shape) == 1


def _form(site: Site, addend: ir.Value | None, bias: ir.Value) -> ir.Value:
    """``bias`` in the form in which its rounded counterpart was added."""
    way = [value.producer() for value in producer_chain(addend, lambda node: node.op_type != "Div")]
    forms = [node for node in way if node is not None and passes_on(node, _FORMS)]
    for form in reversed(forms):
        kept = {name: attribute.value for name, attribute in form.attributes.items()}
        bias = site.op(form.op_type, bias, *form.inputs[1:], attributes=kept)
    return bias


def _scaled(node: ir.Node) -> tuple[ir.Node, list[ir.Value], ir.Value | None] | None:
    """The last of the multiplications behind an integer product, its factors, and integers that are added before."""
    factors: list[ir.Value] = []
    addend: ir.Value | None = None
    current = node
    while True:
        users = [usage.node for usage in current.outputs[0].uses()]
        if len(users) != 1 or current.outputs[0].is_graph_output():
            break
        ahead = users[0]
        if computes(ahead, Calc.PRODUCT):
            own = current.outputs[0]
            factors += [
                leaf for value in ahead.inputs if value is not None and value is not own for leaf in _leaves(value)
            ]
        elif is_sum(ahead) and addend is None and not factors and current is node:
            addend = next((value for value in ahead.inputs if value is not current.outputs[0]), None)
        elif not passes_on(ahead, Move.CAST):
            break
        current = ahead
        if len(factors) > 1:
            break
    return (current, factors, addend) if factors else None


def _leaves(value: ir.Value) -> list[ir.Value]:
    """Factors that a value is the product of."""
    node = value.producer()
    if node is None or node.op_type != "Mul":
        return [value]
    return [leaf for operand in node.inputs if operand is not None for leaf in _leaves(operand)]


@decomposes("MatMulIntegerToFloat")
def _integer_product_to_float(state: Quantised, site: Site) -> bool:
    data, weight = state.real(site, 0, 2, 4), state.real(site, 1, 3, 5, -1)
    return product(site, data, weight, site.input(6))


@decomposes("DynamicQuantizeMatMul")
def _dynamic_product(state: Quantised, site: Site) -> bool:
    return product(site, site.need(0), state.real(site, 1, 2, 3, -1), site.input(4))

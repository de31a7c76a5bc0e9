"""Quantised ops that stand for one op, or for a layer, in floating point."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose.builder import Attribute, Site
from bot_onnx._canonical.decompose.counterparts import Quantised, decomposes, made, plain_name, product
from bot_onnx._canonical.decompose.packed import dequantised, turned, unpacked_blocks, unpacked_table

MICROSOFT = "com.microsoft"


# -- ops that take and make quantised numbers ------------------------------------------------------------------


@decomposes("QLinearMatMul")
def _linear_matmul(state: Quantised, site: Site) -> bool:
    left, right = state.real(site, 0, 1, 2, 0), state.real(site, 3, 4, 5, -1)
    return left is not None and right is not None and made(state, site, site.op("MatMul", left, right), 6)


@decomposes("QLinearConv")
def _linear_conv(state: Quantised, site: Site) -> bool:
    data, weight = state.real(site, 0, 1, 2), state.real(site, 3, 4, 5, 0)
    bias = site.input(8)
    if bias is not None:
        bias = state.weight(site, bias, site.need(4), None, 0, factor=site.need(1))
    if data is None or weight is None or (site.input(8) is not None and bias is None):
        return False
    kept = {name: attribute.value for name, attribute in site.node.attributes.items()}
    return made(state, site, site.op("Conv", data, weight, bias, attributes=kept), 6)


@decomposes("QGemm")
def _gemm(state: Quantised, site: Site) -> bool:
    """The bias is stored in units of ``scale_a * scale_b``; without an output scale the result is a float."""
    column = 0 if site.node.attributes.get_int("transB", 0) else 1
    data, weight, bias = state.real(site, 0, 1, 2, 0), state.real(site, 3, 4, 5, column), site.input(6)
    if bias is not None:
        bias = state.weight(site, bias, site.need(4), None, -1, factor=site.need(1))
    if data is None or weight is None or (site.input(6) is not None and bias is None):
        return False
    result = site.op("Gemm", data, weight, bias, attributes=site.kept("alpha", "transA", "transB"))
    if site.input(7) is not None:
        return made(state, site, result, 7)
    site.replace(result)
    return True


@decomposes("QLinearAdd", "QLinearMul")
def _elementwise(state: Quantised, site: Site) -> bool:
    left, right = state.real(site, 0, 1, 2), state.real(site, 3, 4, 5)
    kind = site.node.op_type.removeprefix("QLinear")
    return left is not None and right is not None and made(state, site, site.op(kind, left, right), 6)


@decomposes(
    "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearReduceMean",
)  # fmt: skip
def _unary(state: Quantised, site: Site) -> bool:
    data = state.real(site, 0, 1, 2)
    if data is None or site.node.attributes.get_int("channels_last", 0) != 0:
        return False
    dropped = ("opset", "channels_last")
    kept = {name: attribute.value for name, attribute in site.node.attributes.items() if name not in dropped}
    return made(state, site, site.op(site.node.op_type.removeprefix("QLinear"), data, attributes=kept), 3)


@decomposes("QLinearConcat")
def _concat(state: Quantised, site: Site) -> bool:
    operands = [state.real(site, slot, slot + 1, slot + 2) for slot in range(2, len(site.node.inputs), 3)]
    if any(operand is None for operand in operands):
        return False
    return made(state, site, site.op("Concat", *operands, attributes=site.kept("axis")))


@decomposes("QLinearWhere")
def _where(state: Quantised, site: Site) -> bool:
    left, right = state.real(site, 1, 2, 3), state.real(site, 4, 5, 6)
    return left is not None and right is not None and made(state, site, site.op("Where", site.need(0), left, right))


# -- whole layers ----------------------------------------------------------------------------------------------


@decomposes("QAttention")
def _attention(state: Quantised, site: Site) -> bool:
    data, weight = state.real(site, 0, 3, 6), state.real(site, 1, 4, 7, 1)
    if data is None or weight is None:
        return False
    kept: dict[str, Attribute] = {name: attribute.value for name, attribute in site.node.attributes.items()}
    inputs = (data, weight, site.input(2), site.input(5), site.input(8))
    twin = site.op("Attention", *inputs, domain=MICROSOFT, attributes=kept, outputs=len(site.node.outputs))
    node = twin.producer()
    assert node is not None
    site.replace(*node.outputs)
    return True


@decomposes("QEmbedLayerNormalization")
def _embeddings(state: Quantised, site: Site) -> bool:
    """The tables, scale and bias in floating point; what is left is onnxruntime's EmbedLayerNormalization."""
    tables: list[ir.Value | None] = []
    for number, slot in enumerate((2, 3, 4, 5, 6)):
        if site.input(slot) is None:
            tables.append(None)
            continue
        table = state.real(site, slot, 8 + number, 13 + number, 0)
        if table is None:
            return False
        tables.append(table)
    inputs = (site.need(0), site.input(1), *tables, site.input(7))
    twin = site.op(
        "EmbedLayerNormalization", *inputs, domain=MICROSOFT, attributes=site.kept("epsilon"), outputs=2
    )  # fmt: skip
    node = twin.producer()
    assert node is not None
    site.replace(*node.outputs)
    return True


@decomposes("DynamicQuantizeLSTM")
def _lstm(state: Quantised, site: Site) -> bool:
    """Weights are stored with their two last axes exchanged."""
    weights: list[ir.Value] = []
    for slot, scale, zero_point in ((1, 8, 9), (2, 10, 11)):
        tensor, scales, zeros = (site.need(index).const_value for index in (slot, scale, zero_point))
        if tensor is None or scales is None or zeros is None:
            return False
        shape = (scales.shape.numpy()[0], 1, -1)
        wide = [ir.Tensor(np.asarray(part.numpy()).reshape(shape)) for part in (scales, zeros)]
        plain = turned(dequantised(tensor, wide[0], wide[1], 0), (0, 2, 1))
        weights.append(site.initializer(plain, plain_name(site.need(slot).name or "")))
    kept: dict[str, Attribute] = {name: attribute.value for name, attribute in site.node.attributes.items()}
    rest = [site.input(slot) for slot in range(3, 8)]
    twin = site.op("LSTM", site.need(0), *weights, *rest, attributes=kept, outputs=len(site.node.outputs))
    node = twin.producer()
    assert node is not None
    site.replace(*node.outputs)
    return True


# -- weights in blocks -----------------------------------------------------------------------------------------


@decomposes("MatMulNBits")
def _block_product(state: Quantised, site: Site) -> bool:
    attributes = site.node.attributes
    shape = (attributes.get_int("K", 0), attributes.get_int("N", 0))
    bits, block = attributes.get_int("bits", 4), attributes.get_int("block_size", 0)
    stored, scales, zeros, groups = (_tensor(site, slot) for slot in (1, 2, 3, 4))
    if stored is None or scales is None or not block or attributes.get_int("weight_prepacked", 0) != 0:
        return False
    if any(site.input(slot) is not None and _tensor(site, slot) is None for slot in (3, 4)):
        return False
    key = (site.need(1).name or "", bits, block)
    if key not in state.weights:
        tensor = unpacked_blocks(stored, scales, zeros, groups, shape, bits, block)
        state.weights[key] = site.initializer(tensor, plain_name(site.need(1).name or ""))
    return product(site, site.need(0), state.weights[key], site.input(5))


@decomposes("GatherBlockQuantized")
def _block_table(state: Quantised, site: Site) -> bool:
    attributes = site.node.attributes
    stored, scales, zeros = (_tensor(site, slot) for slot in (0, 2, 3))
    if stored is None or scales is None or (site.input(3) is not None and zeros is None):
        return False
    axis, bits = attributes.get_int("quantize_axis", 1), attributes.get_int("bits", 4)
    tensor = unpacked_table(stored, scales, zeros, axis, bits, attributes.get_int("block_size", 128))
    table = site.initializer(tensor, plain_name(site.need(0).name or ""))
    gathered: dict[str, Attribute] = {"axis": attributes.get_int("gather_axis", 0)}
    site.replace(site.op("Gather", table, site.need(1), attributes=gathered))
    return True


def _tensor(site: Site, slot: int) -> ir.TensorProtocol | None:
    value = site.input(slot)
    return None if value is None else value.const_value

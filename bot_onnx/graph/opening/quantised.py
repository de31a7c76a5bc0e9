"""Open a quantised graph: packed weights become floats, ops on integers the ops they stand for, roundings go.

What is quantised on the way (activations) is followed by its floating-point counterpart: the value that went into the
quantisation. An op that cannot be followed stays, and the planner refuses the file by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bot_onnx.graph.opening.builder import Attribute, Opener, names_in
from bot_onnx.graph.opening.packed import dequantised, turned, unpacked_blocks, unpacked_table
from bot_onnx.graph.opening.scheme import QUANTISED_OPS

MICROSOFT = "com.microsoft"
Open = Callable[["Quantised", Opener], bool]
_OPENERS: dict[str, Open] = {}

#: Ops that move numbers without computing; quantised ones stay so. Slots of their data, None: all inputs.
_MOVES: dict[str, tuple[int, ...] | None] = {
    "Gather": (0,), "Reshape": (0,), "Transpose": (0,), "Slice": (0,), "Squeeze": (0,), "Unsqueeze": (0,),
    "Flatten": (0,), "Split": (0,), "Expand": (0,), "Tile": (0,), "Identity": (0,), "MaxPool": (0,), "Concat": None,
    "Where": (1, 2), "Resize": (0,), "DepthToSpace": (0,), "SpaceToDepth": (0,), "GatherND": (0,), "Relu": (0,),
}  # fmt: skip


#: Slots of operands whose scale and zero point are the two inputs behind them.
_MEANING_BEHIND: dict[str, tuple[int, ...]] = {
    "DequantizeLinear": (0,), "QLinearMatMul": (0, 3), "QLinearConv": (0, 3), "QGemm": (0, 3), "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3), "QLinearWhere": (1, 4), "QLinearSigmoid": (0,), "QLinearLeakyRelu": (0,),
    "QLinearSoftmax": (0,), "QLinearAveragePool": (0,), "QLinearGlobalAveragePool": (0,), "QLinearReduceMean": (0,),
}  # fmt: skip


@dataclass(slots=True)
class Quantised:
    """State of the rewriting of one graph.

    Attributes:
        graph: the graph.
        floats: the floating-point counterpart of every quantised value met so far.
        taken: names in use.
        weights: floats made of packed weights, by what they were made of: a shared weight stays shared.
    """

    graph: ir.Graph
    floats: dict[ir.Value, ir.Value] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    weights: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def weight(
        self,
        site: Opener,
        stored: ir.Value,
        scale: ir.Value,
        zero_point: ir.Value | None,
        axis: int,
        *,
        block: int = 0,
        factor: ir.Value | None = None,
    ) -> ir.Value | None:
        """Initializer with the values of a packed one; None where scale or zero point are computed."""
        parts = [stored, scale, zero_point, factor]
        tensors = [None if part is None else part.const_value for part in parts]
        if any(part is not None and tensor is None for part, tensor in zip(parts, tensors, strict=True)):
            return None
        contents = (None if t is None else np.asarray(t.numpy()).tobytes() for t in tensors[1:])
        key = (stored.name or "", *contents, axis, block)
        if key not in self.weights:
            assert tensors[0] is not None and tensors[1] is not None
            tensor = dequantised(tensors[0], tensors[1], tensors[2], axis, block, tensors[3])
            self.weights[key] = site.initializer(tensor, plain_name(stored.name or ""))
        return self.weights[key]

    def real(
        self, site: Opener, slot: int, scale: int, zero_point: int, axis: int = 1, *, factor: int | None = None
    ) -> ir.Value | None:
        """Counterpart of the input ``slot``, whose scale and zero point are the given inputs."""
        value = site.need(slot)
        if value.const_value is None:
            return self.floats.get(value)
        extra = None if factor is None else site.need(factor)
        return self.weight(site, value, site.need(scale), site.input(zero_point), axis, factor=extra)


def plain_name(name: str) -> str:
    """Name of a weight without what quantisers append."""
    for ending in ("_quantized", "_Q4", "_Q8", "_quant", "_DequantizeLinear_Output"):
        name = name.removesuffix(ending)
    return name


def _opens(*ops: str) -> Callable[[Open], Open]:
    def register(function: Open) -> Open:
        for op in ops:
            _OPENERS[op] = function
        return function

    return register


def open_quantised(graph: ir.Graph) -> list[tuple[ir.Value, str]]:
    """Write quantised ops of ``graph`` in floating point, in place; those that cannot be followed stay.

    Returns:
        The floating-point weights, and the names they should have once the packed ones are gone.
    """
    if not any(node.op_type in QUANTISED_OPS for node in graph):
        return []
    graph.sort()
    state = Quantised(graph, taken=names_in(graph))
    for node in list(graph):
        if node.graph is not graph:
            continue
        opener = _OPENERS.get(node.op_type)
        if opener is not None:
            opener(state, Opener(graph, node, state.taken))
        elif node.op_type in _MOVES:
            _move(state, Opener(graph, node, state.taken))
    return [(value, plain_name(str(key[0]))) for key, value in state.weights.items()]


# -- between floats and quantised numbers ----------------------------------------------------------------------


@_opens("QuantizeLinear", "DynamicQuantizeLinear")
def _quantise(state: Quantised, site: Opener) -> bool:
    """What is rounded is followed by what it was before."""
    value = site.need(0)
    state.floats[site.node.outputs[0]] = state.floats.get(value, value)
    return True


@_opens("DequantizeLinear")
def _dequantise(state: Quantised, site: Opener) -> bool:
    value = site.need(0)
    block, axis = site.node.attributes.get_int("block_size", 0), site.node.attributes.get_int("axis", 1)
    if value.const_value is None:
        plain = state.floats.get(value)
    else:
        plain = state.weight(site, value, site.need(1), site.input(2), axis, block=block)
    if plain is None:
        return False
    site.replace(plain)
    return True


def _move(state: Quantised, site: Opener) -> None:
    """Beside an op that moves quantised numbers, the same op on their counterparts."""
    node = site.node
    slots = _MOVES[node.op_type]
    chosen = range(len(node.inputs)) if slots is None else slots
    operands = {slot: value for slot in chosen if (value := site.input(slot)) is not None}
    if not any(value in state.floats or _is_small(value) for value in operands.values()):
        return
    inputs = list(node.inputs)
    for slot, value in operands.items():
        plain = state.floats.get(value)
        if plain is None and value.const_value is not None:
            meaning = _meaning(node.outputs[0])
            plain = None if meaning is None else state.weight(site, value, *meaning, 0)
        if plain is None:
            return
        inputs[slot] = plain
    kept: dict[str, Attribute] = {name: attribute.value for name, attribute in node.attributes.items()}
    twin = site.op(node.op_type, *inputs, attributes=kept, outputs=len(node.outputs)).producer()
    assert twin is not None
    state.floats.update(zip(node.outputs, twin.outputs, strict=True))


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and len(tensor.shape) > 1 and tensor.dtype in (ir.DataType.INT8, ir.DataType.UINT8)


def _meaning(value: ir.Value) -> tuple[ir.Value, ir.Value | None] | None:
    """Scale and zero point of moved numbers, as the op says that reads them, if they are one for all."""
    for _ in range(16):
        usage = next(iter(value.uses()), None)
        if usage is None:
            return None
        node, slot = usage.node, usage.idx
        if node.op_type in _MOVES:
            value = node.outputs[0]
            continue
        first = _MEANING_BEHIND.get(node.op_type, ())
        if slot not in first and not (node.op_type == "QLinearConcat" and slot % 3 == 2):
            return None
        scale, zero_point = (node.inputs[i] if i < len(node.inputs) else None for i in (slot + 1, slot + 2))
        known = scale is not None and scale.const_value is not None and scale.const_value.size == 1
        return (scale, zero_point) if known and scale is not None else None
    return None


# -- products of integers: the scales follow as factors ----------------------------------------------------------


@_opens("MatMulInteger", "ConvInteger")
def _integer_product(state: Quantised, site: Opener) -> bool:
    """``Cast(a @ b) * (scale_a * scale_b)`` becomes the product of the counterparts."""
    node = site.node
    data = state.floats.get(site.need(0))
    scaled = _scaled(node)
    if data is None or scaled is None:
        return False
    last, factors = scaled
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
    made = site.op("MatMul" if node.op_type == "MatMulInteger" else "Conv", data, weight, attributes=kept)
    Opener(state.graph, last, state.taken).replace(made)
    return True


def _rounding(value: ir.Value) -> tuple[ir.Value | None, ir.Value | None] | None:
    """Scale and zero point that a value was quantised with."""
    node = value.producer()
    while node is not None and node.op_type in _MOVES and _MOVES[node.op_type] == (0,):
        value = node.inputs[0] or value
        node = value.producer()
    if node is None or node.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear"):
        return None
    if node.op_type == "DynamicQuantizeLinear":
        return node.outputs[1], node.outputs[2]
    return node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None


def _zero_point(site: Opener) -> ir.Value | None:
    value = site.input(3)
    return None if value is None else _flat(site, value)


def _flat(site: Opener, value: ir.Value) -> ir.Value:
    """Scales as a vector (a convolution has them in the shape of its output)."""
    tensor = value.const_value
    if tensor is None or len(tensor.shape) < 2:
        return value
    return site.constant(np.asarray(tensor.numpy()).reshape(-1), "scales")


def _scaled(node: ir.Node) -> tuple[ir.Node, list[ir.Value]] | None:
    """The last of the multiplications behind an integer product, and all of its factors."""
    factors: list[ir.Value] = []
    current = node
    while True:
        users = [usage.node for usage in current.outputs[0].uses()]
        if len(users) != 1 or current.outputs[0].is_graph_output():
            break
        ahead = users[0]
        if ahead.op_type == "Mul":
            own = current.outputs[0]
            factors += [
                leaf for value in ahead.inputs if value is not None and value is not own for leaf in _leaves(value)
            ]
        elif ahead.op_type != "Cast":
            break
        current = ahead
        if len(factors) > 1:
            break
    return (current, factors) if factors else None


def _leaves(value: ir.Value) -> list[ir.Value]:
    """Factors that a value is the product of."""
    node = value.producer()
    if node is None or node.op_type != "Mul":
        return [value]
    return [leaf for operand in node.inputs if operand is not None for leaf in _leaves(operand)]


@_opens("MatMulIntegerToFloat")
def _integer_product_to_float(state: Quantised, site: Opener) -> bool:
    data, weight = state.real(site, 0, 2, 4), state.real(site, 1, 3, 5, -1)
    return _product(site, "MatMul", data, weight, site.input(6))


@_opens("DynamicQuantizeMatMul")
def _dynamic_product(state: Quantised, site: Opener) -> bool:
    return _product(site, "MatMul", site.need(0), state.real(site, 1, 2, 3, -1), site.input(4))


def _product(site: Opener, kind: str, data: ir.Value | None, weight: ir.Value | None, bias: ir.Value | None) -> bool:
    if data is None or weight is None:
        return False
    result = site.op(kind, data, weight)
    site.replace(result if bias is None else site.op("Add", result, bias))
    return True


# -- ops that take and make quantised numbers ------------------------------------------------------------------


def _made(state: Quantised, site: Opener, result: ir.Value) -> bool:
    """``result`` is the counterpart of the node's output."""
    state.floats[site.node.outputs[0]] = result
    return True


@_opens("QLinearMatMul")
def _linear_matmul(state: Quantised, site: Opener) -> bool:
    left, right = state.real(site, 0, 1, 2, 0), state.real(site, 3, 4, 5, -1)
    return left is not None and right is not None and _made(state, site, site.op("MatMul", left, right))


@_opens("QLinearConv")
def _linear_conv(state: Quantised, site: Opener) -> bool:
    data, weight = state.real(site, 0, 1, 2), state.real(site, 3, 4, 5, 0)
    bias = site.input(8)
    if bias is not None:
        bias = state.weight(site, bias, site.need(4), None, 0, factor=site.need(1))
    if data is None or weight is None or (site.input(8) is not None and bias is None):
        return False
    kept = {name: attribute.value for name, attribute in site.node.attributes.items()}
    return _made(state, site, site.op("Conv", data, weight, bias, attributes=kept))


@_opens("QGemm")
def _gemm(state: Quantised, site: Opener) -> bool:
    """The bias is stored in units of ``scale_a * scale_b``; without an output scale the result is a float."""
    column = 0 if site.node.attributes.get_int("transB", 0) else 1
    data, weight, bias = state.real(site, 0, 1, 2, 0), state.real(site, 3, 4, 5, column), site.input(6)
    if bias is not None:
        bias = state.weight(site, bias, site.need(4), None, -1, factor=site.need(1))
    if data is None or weight is None or (site.input(6) is not None and bias is None):
        return False
    result = site.op("Gemm", data, weight, bias, attributes=site.kept("alpha", "transA", "transB"))
    if site.input(7) is not None:
        return _made(state, site, result)
    site.replace(result)
    return True


@_opens("QLinearAdd", "QLinearMul")
def _elementwise(state: Quantised, site: Opener) -> bool:
    left, right = state.real(site, 0, 1, 2), state.real(site, 3, 4, 5)
    kind = site.node.op_type.removeprefix("QLinear")
    return left is not None and right is not None and _made(state, site, site.op(kind, left, right))


@_opens(
    "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearReduceMean",
)  # fmt: skip
def _unary(state: Quantised, site: Opener) -> bool:
    data = state.real(site, 0, 1, 2)
    if data is None or site.node.attributes.get_int("channels_last", 0) != 0:
        return False
    dropped = ("opset", "channels_last")
    kept = {name: attribute.value for name, attribute in site.node.attributes.items() if name not in dropped}
    return _made(state, site, site.op(site.node.op_type.removeprefix("QLinear"), data, attributes=kept))


@_opens("QLinearConcat")
def _concat(state: Quantised, site: Opener) -> bool:
    operands = [state.real(site, slot, slot + 1, slot + 2) for slot in range(2, len(site.node.inputs), 3)]
    if any(operand is None for operand in operands):
        return False
    return _made(state, site, site.op("Concat", *operands, attributes=site.kept("axis")))


@_opens("QLinearWhere")
def _where(state: Quantised, site: Opener) -> bool:
    left, right = state.real(site, 1, 2, 3), state.real(site, 4, 5, 6)
    return left is not None and right is not None and _made(state, site, site.op("Where", site.need(0), left, right))


# -- whole layers ----------------------------------------------------------------------------------------------


@_opens("QAttention")
def _attention(state: Quantised, site: Opener) -> bool:
    data, weight = state.real(site, 0, 3, 6), state.real(site, 1, 4, 7, 1)
    if data is None or weight is None:
        return False
    kept: dict[str, Attribute] = {name: attribute.value for name, attribute in site.node.attributes.items()}
    inputs = (data, weight, site.input(2), site.input(5), site.input(8))
    made = site.op("Attention", *inputs, domain=MICROSOFT, attributes=kept, outputs=len(site.node.outputs))
    node = made.producer()
    assert node is not None
    site.replace(*node.outputs)
    return True


@_opens("QEmbedLayerNormalization")
def _embeddings(state: Quantised, site: Opener) -> bool:
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
    made = site.op(
        "EmbedLayerNormalization", *inputs, domain=MICROSOFT, attributes=site.kept("epsilon"), outputs=2
    )  # fmt: skip
    node = made.producer()
    assert node is not None
    site.replace(*node.outputs)
    return True


@_opens("DynamicQuantizeLSTM")
def _lstm(state: Quantised, site: Opener) -> bool:
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
    made = site.op("LSTM", site.need(0), *weights, *rest, attributes=kept, outputs=len(site.node.outputs))
    node = made.producer()
    assert node is not None
    site.replace(*node.outputs)
    return True


# -- weights in blocks -----------------------------------------------------------------------------------------


@_opens("MatMulNBits")
def _block_product(state: Quantised, site: Opener) -> bool:
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
    return _product(site, "MatMul", site.need(0), state.weights[key], site.input(5))


@_opens("GatherBlockQuantized")
def _block_table(state: Quantised, site: Opener) -> bool:
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


def _tensor(site: Opener, slot: int) -> ir.TensorProtocol | None:
    value = site.input(slot)
    return None if value is None else value.const_value

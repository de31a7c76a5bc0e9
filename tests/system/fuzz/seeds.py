"""Eight small models of different kinds: what is mutated, and what each can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.graphs import GraphBuilder, residual_mlp_model

Arrays = dict[str, NDArray[Any]]
_RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Seed:
    """A model, and what a sound run of it takes.

    Attributes:
        build: makes the model.
        inputs: an array per input.
        spec: a target for it.
        sizes: options of ``resize``, one of which is taken.
        external: large tensors go into these files, in turn.
        resized: whether the seed is what ``resize`` makes of the model by ``spec``: such a file has provenance.
        typed: whether values are moved out of raw bytes, into the fields of their types.
    """

    build: Callable[[], onnx.ModelProto]
    inputs: Arrays
    spec: Mapping[str, Any]
    sizes: tuple[tuple[str, ...], ...]
    external: tuple[str, ...] = ()
    resized: bool = False
    typed: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


def _floats(*shape: int) -> NDArray[np.float32]:
    return _RANDOM.standard_normal(shape).astype(np.float32)


def _cnn() -> onnx.ModelProto:
    b = GraphBuilder(1)

    def conv(x: str, cin: int, cout: int) -> str:
        x = b.op("Conv", x, b.weight(cout, cin, 3, 3), b.weight(cout), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        tables = [b.constant(np.full(cout, value, np.float32)) for value in (1.0, 0.1, 0.0, 1.0)]
        return b.op("BatchNormalization", x, *tables)

    x = b.op("Relu", conv("x", 3, 8))
    for _ in range(3):
        x = b.op("Relu", b.op("Add", x, conv(b.op("Relu", conv(x, 8, 8)), 8, 8)))
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    b.op("Gemm", x, b.weight(10, 8), b.weight(10), transB=1)
    return b.model([("x", ["batch", 3, 8, 8])], [b.nodes[-1].output[0]])


def _transformer() -> onnx.ModelProto:
    """Two layers of attention over tokens, with a cache of keys and values, and shapes that are computed."""
    b = GraphBuilder(2)
    hidden, heads, size = 8, 2, 4
    x = b.op("Gather", b.weight(20, hidden, name="embedding"), "ids", axis=0)
    ports: list[tuple[str, list[int | str]]] = [("ids", ["batch", "sequence"])]
    presents = []
    for layer in range(2):
        normed = b.op("LayerNormalization", x, b.weight(hidden), b.weight(hidden))
        batch = b.op("Gather", b.op("Shape", x), b.constant(np.array(0, np.int64)), axis=0)
        length = b.op("Gather", b.op("Shape", x), b.constant(np.array(1, np.int64)), axis=0)
        ends = [b.op("Unsqueeze", each, b.ints(0)) for each in (batch, length)]
        split = b.op("Concat", *ends, b.ints(heads), b.ints(size), axis=0)
        joined = b.op("Concat", *ends, b.ints(hidden), axis=0)
        q, k, v = (
            b.op("Transpose", b.op("Reshape", _linear(b, normed, hidden, hidden), split), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
        past = [f"past.{layer}.{kind}" for kind in ("key", "value")]
        ports += [(name, ["batch", heads, "past", size]) for name in past]
        k, v = (b.op("Concat", old, new, axis=2) for old, new in zip(past, (k, v), strict=True))
        for kind, value in (("key", k), ("value", v)):
            b.nodes.append(helper.make_node("Identity", [value], [f"present.{layer}.{kind}"]))
            presents.append(f"present.{layer}.{kind}")
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = b.op("Softmax", b.op("Div", scores, b.constant(np.float32(size**0.5))), axis=-1)
        mixed = b.op("Reshape", b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3]), joined)
        x = b.op("Add", x, _linear(b, mixed, hidden, hidden))
        inside = b.op("Relu", _linear(b, b.op("LayerNormalization", x, b.weight(hidden), b.weight(hidden)), hidden, 16))
        x = b.op("Add", x, _linear(b, inside, 16, hidden))
    logits = b.op("MatMul", x, b.weight(hidden, 20, name="head"))
    model = b.model(ports, [logits], integer_inputs=["ids"], rank=3)
    four = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", heads, None, size]) for name in presents]
    model.graph.output.extend(four)
    return model


def _linear(b: GraphBuilder, x: str, wide: int, out: int) -> str:
    return b.op("Add", b.op("MatMul", x, b.weight(wide, out)), b.weight(out))


def _recurrent() -> onnx.ModelProto:
    b = GraphBuilder(3)
    lstm = [b.weight(1, 32, 4), b.weight(1, 32, 8), b.weight(1, 64)]
    b.op("LSTM", "x", *lstm, "", "h0", "c0", hidden_size=8, outputs=3)
    y, h, c = b.nodes[-1].output
    x = b.op("Squeeze", y, b.ints(1))
    gru = [b.weight(2, 24, 8), b.weight(2, 24, 8), b.weight(2, 48)]
    x = b.op("GRU", x, *gru, hidden_size=8, linear_before_reset=1, direction="bidirectional", outputs=2)
    x = b.op("Reshape", b.op("Transpose", x, perm=[0, 2, 1, 3]), b.ints(0, 0, 16))
    x = b.op("Gemm", b.op("ReduceMean", x, axes=[0], keepdims=0), b.weight(16, 5), b.weight(5))
    state: list[int | str] = [1, "batch", 8]
    model = b.model([("x", ["time", "batch", 4]), ("h0", state), ("c0", state)], [x])
    for name in (h, c):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, state))
    return model


def _quantised() -> onnx.ModelProto:
    """Integer convolution of activations that are quantised as it runs, then weights behind DequantizeLinear."""
    b = GraphBuilder(4)
    random = np.random.default_rng(4)

    def packed(*shape: int, kind: type[np.generic] = np.int8) -> str:
        return b.constant(random.integers(1, 100, shape).astype(kind))

    b.op("DynamicQuantizeLinear", "x", outputs=3)
    x, scale, zero = b.nodes[-1].output
    x = b.op("ConvInteger", x, packed(8, 3, 3, 3, kind=np.uint8), zero, b.constant(np.array(50, np.uint8)),
             kernel_shape=[3, 3], pads=[1, 1, 1, 1])  # fmt: skip
    scale = b.op("Mul", scale, b.constant(np.float32(0.01)))
    x = b.op("Relu", b.op("Mul", b.op("Cast", x, to=TensorProto.FLOAT), scale))
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    for wide, out in ((8, 16), (16, 8)):
        scale = b.constant(np.full(out, 0.01, np.float32))
        weight = b.op("DequantizeLinear", packed(wide, out), scale, b.constant(np.zeros(out, np.int8)), axis=1)
        x = b.op("Relu", b.op("Add", b.op("MatMul", x, weight), b.weight(out)))
    b.op("DynamicQuantizeLinear", x, outputs=3)
    x, scale, zero = b.nodes[-1].output
    x = b.op("MatMulInteger", x, packed(8, 5), zero)
    x = b.op("Mul", b.op("Cast", x, to=TensorProto.FLOAT), b.op("Mul", scale, b.constant(np.float32(0.01))))
    return b.model([("x", ["batch", 3, 8, 8])], [x])


def _body(name: str, b: GraphBuilder, inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
    return helper.make_graph(b.nodes, name, inputs, outputs, b.tensors)


def _control() -> onnx.ModelProto:
    """A Loop, a Scan over time and an If, all with weights in their bodies."""
    value = helper.make_tensor_value_info
    b = GraphBuilder(5)
    x = b.op("MatMul", "x", b.weight(4, 8))
    inner = GraphBuilder(6)
    inner.nodes.append(helper.make_node("MatMul", ["carried", inner.weight(8, 8, name="loop_w")], ["product"]))
    inner.nodes.append(helper.make_node("Tanh", ["product"], ["next"]))
    inner.nodes.append(helper.make_node("Identity", ["going"], ["on"]))
    loop = _body(
        "loop",
        inner,
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), value("carried", 1, None)],
        [value("on", TensorProto.BOOL, []), value("next", 1, None)],
    )
    x = b.op("Loop", b.constant(np.array(3, np.int64)), b.constant(np.array(True)), x, body=loop)
    inner = GraphBuilder(7)
    inner.nodes.append(helper.make_node("MatMul", ["state", inner.weight(8, 8, name="scan_w")], ["turned"]))
    inner.nodes.append(helper.make_node("Add", ["turned", "step"], ["after"]))
    inner.nodes.append(helper.make_node("Identity", ["after"], ["shown"]))
    sides = [value("state", 1, ["batch", 8]), value("step", 1, ["batch", 8])]
    ends = [value("after", 1, ["batch", 8]), value("shown", 1, ["batch", 8])]
    steps = b.op("Concat", *[b.op("Unsqueeze", x, b.ints(0))] * 2, axis=0)
    x = b.op("Scan", x, steps, body=_body("scan", inner, sides, ends), num_scan_inputs=1, outputs=2)
    branches = []
    for number, name in enumerate(("then", "else")):
        inner = GraphBuilder(8 + number)
        inner.nodes.append(helper.make_node("MatMul", [x, inner.weight(8, 8, name=f"{name}_w")], [f"{name}_y"]))
        branches.append(_body(name, inner, [], [value(f"{name}_y", 1, None)]))
    positive = b.op("Greater", b.op("ReduceSum", "x", keepdims=0), b.constant(np.float32(0)))
    x = b.op("If", positive, then_branch=branches[0], else_branch=branches[1])
    return b.model([("x", ["batch", 4])], [b.op("MatMul", x, b.weight(8, 3))])


def _functions() -> onnx.ModelProto:
    """A chain of layers that are calls of a local function, which calls another one and takes an attribute."""
    b = GraphBuilder(10)
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    leak = helper.make_node("LeakyRelu", ["v"], ["r"])
    leak.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    act = helper.make_function("local", "Act", ["v"], ["r"], [leak], opset[:1], attributes=["slope"])
    call = helper.make_node("Act", ["h"], ["a"], domain="local")
    call.attribute.add(name="slope", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    nodes = [
        helper.make_node("MatMul", ["v", "up"], ["h"]),
        call,
        helper.make_node("MatMul", ["a", "down"], ["d"]),
        helper.make_node("Add", ["v", "d"], ["r"]),
    ]
    block = helper.make_function("local", "Block", ["v", "up", "down"], ["r"], nodes, opset, attributes=["slope"])
    x = b.op("MatMul", "x", b.weight(4, 64))
    for _ in range(3):
        x = b.op("Block", x, b.weight(64, 128), b.weight(128, 64), domain="local", slope=0.1)
    model = b.model([("x", ["batch", 4])], [b.op("MatMul", x, b.weight(64, 3))])
    del model.opset_import[:]
    model.opset_import.extend(opset)
    model.functions.extend([act, block])
    return model


def _typed() -> onnx.ModelProto:
    """A residual network with half-precision, double, integer and text tensors beside the floats."""
    model = residual_mlp_model(3, 16, 32)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.full((3, 3), 0.5, np.float16), "half"))
    graph.initializer.append(numpy_helper.from_array(np.full(3, 0.5), "double"))
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int32), "order"))
    graph.initializer.append(helper.make_tensor("labels", TensorProto.STRING, [3], [b"a", b"b", b"c"]))
    last = graph.output[0].name
    graph.node.append(helper.make_node("Cast", [last], ["narrow"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("MatMul", ["narrow", "half"], ["mixed"]))
    graph.node.append(helper.make_node("Cast", ["mixed"], ["wide"], to=TensorProto.DOUBLE))
    graph.node.append(helper.make_node("Mul", ["wide", "double"], ["scaled"]))
    graph.node.append(helper.make_node("Gather", ["scaled", "order"], ["score"], axis=1))
    graph.node.append(helper.make_node("ArgMax", ["score"], ["best"], axis=1, keepdims=0))
    graph.node.append(helper.make_node("Gather", ["labels", "best"], ["label"], axis=0))
    graph.output.append(helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["batch", 3]))
    graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"]))
    return model


def to_typed(model: onnx.ModelProto) -> None:
    """Move values out of raw bytes, into the fields of their types."""
    for tensor in model.graph.initializer:
        if tensor.HasField("raw_data"):
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float16:
                array = array.view(np.uint16)
            values = array.reshape(-1).tolist()
            tensor.CopyFrom(
                helper.make_tensor(tensor.name, tensor.data_type, list(tensor.dims), values)
                if tensor.data_type != TensorProto.FLOAT16
                else onnx.TensorProto(name=tensor.name, data_type=10, dims=tensor.dims, int32_data=values)
            )


_WIDTHS = (("--width", "0.5"), ("--width", "2"))

#: By kind.
SEEDS: dict[str, Seed] = {
    "mlp": Seed(
        lambda: residual_mlp_model(4, 16, 32),
        {"x": _floats(4, 4)},
        {"layers": 3, "hidden": 8},
        (("--hidden", "8"), ("--layers", "2"), ("--intermediate", "16", "--layers", "5"), *_WIDTHS),
        resized=True,
    ),
    "cnn": Seed(_cnn, {"x": _floats(2, 3, 8, 8)}, {"width": 0.5}, (("--layers", "2"), *_WIDTHS)),
    "transformer": Seed(
        _transformer,
        {
            "ids": np.arange(6).reshape(2, 3),
            **{f"past.{layer}.{kind}": _floats(2, 2, 5, 4) for layer in (0, 1) for kind in ("key", "value")},
        },
        {"layers": 1, "hidden": 4, "heads": 1},
        (("--layers", "1"), ("--heads", "1"), ("--layers", "3", "--heads", "4", "--vocab", "30"), *_WIDTHS),
    ),
    "recurrent": Seed(
        _recurrent,
        {"x": _floats(5, 2, 4), "h0": _floats(1, 2, 8), "c0": _floats(1, 2, 8)},
        {"width": 0.5},
        _WIDTHS,
    ),
    "quantised": Seed(
        _quantised,
        {"x": _floats(2, 3, 8, 8)},
        {"width": 0.5},
        (*_WIDTHS, ("--width", "0.5", "--requantize")),
    ),
    "control": Seed(_control, {"x": _floats(2, 4)}, {"width": 0.5}, _WIDTHS),
    "functions": Seed(
        _functions,
        {"x": _floats(2, 4)},
        {"layers": 2, "hidden": 32},
        (("--layers", "2"), ("--hidden", "32", "--external"), *_WIDTHS),
        external=("first.bin", "second.bin"),
    ),
    "typed": Seed(
        _typed,
        {"x": _floats(4, 4)},
        {"hidden": 8, "layers": 2},
        (("--hidden", "8"), ("--layers", "2"), *_WIDTHS),
        resized=True,
        typed=True,
    ),
}

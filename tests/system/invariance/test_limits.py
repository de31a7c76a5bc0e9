"""What only looks neutral stays, and what is not understood is said not to be."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import ResampleError
from tests.graphs import GraphBuilder, residual_mlp_model, save
from tests.system.invariance.facts import difference, facts, understood
from tests.system.invariance.zoo import ZOO

HIDDEN = 8
Between = Callable[[GraphBuilder, str], str]


def ops_of(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in understood(model).model.graph]


def single(build: Between, shape: list[int | str] | None = None) -> onnx.ModelProto:
    """``w2 · build(w1 · x)``."""
    b = GraphBuilder()
    made = build(b, b.op("MatMul", "x", b.weight(4, HIDDEN)))
    b.op("MatMul", made, b.weight(HIDDEN, 3))
    return b.model([("x", shape or ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def number(b: GraphBuilder, value: float) -> str:
    return b.constant(np.array(value, np.float32))


CHANGING: dict[str, tuple[str, Between]] = {
    "a window of an open axis": ("Slice", lambda b, x: b.op("Slice", x, b.ints(0), b.ints(512), b.ints(1))),
    "backwards": ("Slice", lambda b, x: b.op("Slice", x, b.ints(-1), b.ints(-(2**31)), b.ints(2), b.ints(-1))),
    "a window from the end": ("Slice", lambda b, x: b.op("Slice", x, b.ints(-512), b.ints(2**31 - 1), b.ints(1))),
    "a gain per channel": ("Mul", lambda b, x: b.op("Mul", x, b.constant(np.ones(HIDDEN, np.float32)))),
    "a bias per channel": ("Add", lambda b, x: b.op("Add", x, b.constant(np.zeros(HIDDEN, np.float32)))),
    "one over it": ("Div", lambda b, x: b.op("Div", number(b, 1.0), x)),
    "less it": ("Sub", lambda b, x: b.op("Sub", number(b, 0.0), x)),
    "a bound": ("Clip", lambda b, x: b.op("Clip", x, number(b, 0.0))),
    "a turn": ("Transpose", lambda b, x: b.op("Transpose", x, perm=[1, 0, 2])),
    "another type": ("Cast", lambda b, x: b.op("Cast", b.op("Cast", x, to=onnx.TensorProto.FLOAT16), to=1)),
    "a border": ("Pad", lambda b, x: b.op("Pad", x, b.ints(0, 0, 0, 0, 1, 0))),
}


@pytest.mark.parametrize("what", CHANGING)
def test_what_changes_something_stays(what: str) -> None:
    op, build = CHANGING[what]
    assert op in ops_of(single(build))


def test_training_stays() -> None:
    def build(b: GraphBuilder, x: str) -> str:
        return b.op("Dropout", x, number(b, 0.5), b.constant(np.array(True)))

    assert "Dropout" in ops_of(single(build))


def test_a_mask_that_is_asked_for_stays() -> None:
    def build(b: GraphBuilder, x: str) -> str:
        kept = b.op("Dropout", x, outputs=2)
        return b.op("Where", f"{kept}.1", kept, number(b, 0.0))

    assert "Dropout" in ops_of(single(build))


def test_expanding_to_the_batch_of_another_input_stays() -> None:
    """Both are open, and one may be 1 when it runs."""
    b = GraphBuilder()
    made = b.op(
        "Expand", b.op("MatMul", "x", b.weight(4, HIDDEN)), b.op("Shape", b.op("MatMul", "y", b.weight(4, HIDDEN)))
    )
    b.op("MatMul", made, b.weight(HIDDEN, 3))
    ports = [("x", ["batch", "sequence", 4]), ("y", ["batch", "sequence", 4])]
    assert "Expand" in ops_of(b.model(ports, [b.nodes[-1].output[0]], rank=3))


def gained(gains: list[float]) -> onnx.ModelProto:
    """Residual layers, each with a gain that it learned."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    for gain in gains:
        inside = b.op("Relu", b.op("MatMul", x, b.weight(HIDDEN, 12)))
        x = b.op("Add", x, b.op("Mul", b.op("MatMul", inside, b.weight(12, HIDDEN)), number(b, gain)))
    b.op("MatMul", x, b.weight(HIDDEN, 3))
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


@pytest.mark.parametrize("gains", [[1.0, 0.9, 1.1, 0.8], [1.0, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]])
def test_a_gain_that_is_one_in_some_layers_is_a_gain(gains: list[float]) -> None:
    (chain,) = understood(gained(gains)).structure.chains
    assert chain.count == len(gains)


def on_the_stream(build: Between) -> onnx.ModelProto:
    """Residual layers with something that stands on the stream between two sums."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    for _ in range(4):
        branch = b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(HIDDEN, 12))), b.weight(12, HIDDEN))
        x = b.op("Add", build(b, x), branch)
    b.op("MatMul", x, b.weight(HIDDEN, 3))
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


def test_a_stream_that_is_not_understood_is_unknown(tmp_path: Path) -> None:
    source = save(on_the_stream(lambda b, x: b.op("CumSum", x, b.constant(np.array(1)))), tmp_path)
    structure = bot_onnx.inspect(source).structure
    assert (structure.residual, structure.chains[0].residual) == ("unknown", "unknown")
    assert any("not understood" in note for note in structure.notes)
    with pytest.raises(ResampleError, match="cannot rotate: CumSum"):
        bot_onnx.plan(source, {"layers": 2}, align="rotate")


@pytest.mark.parametrize(
    ("what", "build"),
    [
        ("post-activation", lambda b, x: b.op("Relu", x)),
        ("post-activation", lambda b, x: b.op("Mul", x, b.op("Sigmoid", x))),
        ("pre-norm", lambda b, x: b.op("Reshape", b.op("Reshape", x, b.ints(0, 2, -1)), b.ints(0, -1))),
        ("post-norm", lambda b, x: b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN))),
    ],
)
def test_kinds_of_streams(what: str, build: Between) -> None:
    assert understood(on_the_stream(build)).structure.residual == what


def test_a_decoder_that_flattens_is_pre_norm() -> None:
    found = facts(understood(ZOO["flattened"]().model))
    assert found["residual"] == "pre-norm"
    assert found["rotated"] == facts(understood(ZOO["prenorm"]().model))["rotated"]


@pytest.mark.parametrize("allowzero", [0, 1])
def test_a_view_said_twice_names_no_size_in_the_result(tmp_path: Path, allowzero: int) -> None:
    """PyTorch's exporter writes a flattening twice, with one constant for both."""

    def flattened(b: GraphBuilder, x: str) -> str:
        sizes = b.ints(-1, HIDDEN)
        once = b.op("Reshape", x, sizes, allowzero=allowzero)
        return b.op("Reshape", once, sizes, allowzero=allowzero)

    source, out = save(single(flattened), tmp_path), tmp_path / "out.onnx"
    middle = next(dim for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == HIDDEN)
    bot_onnx.resize(source, {"dims": {middle.name: 2 * HIDDEN}}, out)
    written = onnx.load(out)
    weights = {tuple(tensor.dims) for tensor in written.graph.initializer if len(tensor.dims) == 2}
    assert [node.op_type for node in written.graph.node].count("Reshape") == 2
    assert weights == {(4, 2 * HIDDEN), (2 * HIDDEN, 3)}


def test_a_view_that_did_nothing_at_the_sizes_that_ran_does_at_others_what_it_did(tmp_path: Path) -> None:
    """It puts what is left over in front, whatever the second axis has at other sizes."""
    source, out = (
        save(single(lambda b, x: b.op("Reshape", x, b.ints(-1, 1, HIDDEN)), ["batch", 1, 4]), tmp_path),
        tmp_path / "out.onnx",
    )
    middle = next(dim for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == HIDDEN)
    bot_onnx.resize(source, {"dims": {middle.name: 2 * HIDDEN}}, out)
    graph = onnx.load(out).graph
    (view,) = (node for node in graph.node if node.op_type == "Reshape")
    (sizes,) = (onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == view.input[1])
    assert sizes.tolist() == [-1, 1, 0]


WORDS = [
    "/kernel/Reshape",
    "heads",
    "spatial",
    "Softmax_mask",
    "hidden",
    "vocab",
    "/norm/scale",
    "k_proj.bias",
    "batch",
]


def renamed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with other names for nodes and inner values: noise, and words that mean something elsewhere."""
    rng = random.Random(seed)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {tensor.name for tensor in graph.initializer}
    keep = weights | {value.name for value in (*graph.input, *graph.output)} | {""}
    made = [name for node in graph.node for name in node.output if name not in keep]
    fresh = {name: f"{rng.choice(WORDS)}_{index}" for index, name in enumerate(made)}
    del graph.value_info[:]
    for index, node in enumerate(graph.node):
        node.name = f"{rng.choice(WORDS)}.{index}"
        node.input[:] = [fresh.get(name, name) for name in node.input]
        node.output[:] = [fresh.get(name, name) for name in node.output]
    return copy


@pytest.mark.parametrize("name", ZOO)
def test_names_of_nodes_and_values_say_nothing(name: str) -> None:
    model = ZOO[name]().model
    assert difference(facts(understood(model)), facts(understood(renamed(model, 5)))) == []


def test_names_of_weights_say_nothing() -> None:
    """What is understood is the same by the place of the weights, whatever they are called."""
    model = residual_mlp_model()
    other = onnx.ModelProto()
    other.CopyFrom(model)
    fresh = {t.name: f"{WORDS[i % len(WORDS)]}.{i:02}" for i, t in enumerate(other.graph.initializer)}
    for tensor in other.graph.initializer:
        tensor.name = fresh[tensor.name]
    for node in other.graph.node:
        node.input[:] = [fresh.get(name, name) for name in node.input]
    first, second = (understood(m).structure for m in (model, other))
    assert [(d.size, d.role, d.kind) for d in first.dims.values()] == [
        (d.size, d.role, d.kind) for d in second.dims.values()
    ]
    assert [(s.kind, s.axes, s.directions) for s in first.stacks] == [
        (s.kind, s.axes, s.directions) for s in second.stacks
    ]

"""What outputs show is the user's interface: it keeps its size, whatever leads there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from rich.console import Console

import bot_onnx
from bot_onnx._report.inspect_report import inspect_report
from bot_onnx._report.json_report import inspection_json
from bot_onnx._structure import Dim
from tests.graphs import GraphBuilder, save

WIDTHS = (0.5, 2.0)
IMAGE = {"x": ("batch", 3, 8, 8)}
Made = tuple[onnx.ModelProto, list[tuple[int, ...]]]  # a model, and the static parts of its outputs' shapes


def model(b: GraphBuilder, outputs: dict[str, int], shape: tuple[int | str, ...] = IMAGE["x"]) -> onnx.ModelProto:
    """The graph, its outputs given with their ONNX types."""
    graph = helper.make_graph(
        b.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        b.tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for port, found in zip(made.graph.output, onnx.shape_inference.infer_shapes(made).graph.output, strict=True):
        rank = len(found.type.tensor_type.shape.dim)
        port.CopyFrom(
            helper.make_tensor_value_info(port.name, outputs[port.name], [f"{port.name}_{i}" for i in range(rank)])
        )
    return made


def conv(b: GraphBuilder, value: str, source: int, target: int, size: int = 1) -> str:
    return b.op("Conv", value, b.weight(target, source, size, size), b.weight(target), pads=[size // 2] * 4)


def trunk(b: GraphBuilder, channels: int = 32) -> str:
    return b.op("Relu", conv(b, b.op("Relu", conv(b, "x", 3, 16, 3)), 16, channels, 3))


def joined_head() -> Made:
    """Boxes and classes on one axis, flattened: a detector's output."""
    b = GraphBuilder()
    f = trunk(b)
    both = b.op("Concat", conv(b, f, 32, 4), b.op("Sigmoid", conv(b, f, 32, 18)), axis=1)
    return model(b, {b.op("Reshape", both, b.ints(0, 22, 64)): 1}), [(22, 64)]


def anchored_head() -> Made:
    """Anchors x (box, classes), of which the box is decoded with constant tables."""
    b = GraphBuilder()
    raw = b.op("Reshape", conv(b, trunk(b), 32, 3 * 9), b.ints(0, 3, 9, 64))
    box = b.op("Slice", raw, b.ints(0), b.ints(4), b.ints(2))
    rest = b.op("Slice", raw, b.ints(4), b.ints(9), b.ints(2))
    box = b.op("Mul", b.op("Exp", box), b.constant(np.array([1, 3, 2, 5, 4, 2], np.float32).repeat(2).reshape(3, 4, 1)))
    out = b.op("Concat", box, b.op("Sigmoid", rest), axis=2)
    return model(b, {b.op("Transpose", out, perm=[0, 1, 3, 2]): 1}), [(3, 64, 9)]


def argmax_head() -> Made:
    b = GraphBuilder()
    return model(b, {b.op("ArgMax", conv(b, trunk(b), 32, 10), axis=1, keepdims=0): 7}), [(8, 8)]


def confidence_head() -> Made:
    """(confidence, label) of ten classes."""
    b = GraphBuilder()
    pooled = b.op("ReduceMean", trunk(b), axes=[2, 3], keepdims=0)
    shares = b.op("Softmax", b.op("MatMul", pooled, b.weight(32, 10)), axis=-1)
    confidence = b.op("ReduceMax", shares, axes=[1], keepdims=0)
    return model(b, {confidence: 1, b.op("ArgMax", shares, axis=1, keepdims=0): 7}), [(), ()]


def topk_head() -> Made:
    b = GraphBuilder()
    pooled = b.op("ReduceMean", trunk(b), axes=[2, 3], keepdims=0)
    top = b.op("TopK", b.op("MatMul", pooled, b.weight(32, 10)), b.ints(3), outputs=2, axis=-1)
    return model(b, {top: 1, f"{top}.1": 7}), [(3,), (3,)]


def binned_head(kind: str) -> Made:
    """A distribution over 16 bins for each of 4 sides, and its mean: by a convolution, a MatMul, or a sum."""
    b = GraphBuilder()
    sides = b.op("Reshape", conv(b, trunk(b), 32, 64), b.ints(0, 4, 16, 64))
    bins = np.arange(16, dtype=np.float32) if kind != "geometric" else np.geomspace(1, 80, 16).astype(np.float32)
    if kind == "conv":
        shares = b.op("Softmax", b.op("Transpose", sides, perm=[0, 2, 1, 3]), axis=1)
        mean = b.op("Conv", shares, b.constant(bins.reshape(1, 16, 1, 1)))
        return model(b, {b.op("Reshape", mean, b.ints(0, 4, 64)): 1}), [(4, 64)]
    shares = b.op("Softmax", b.op("Transpose", sides, perm=[0, 1, 3, 2]), axis=-1)
    if kind == "sum":
        summed = b.op("ReduceSum", b.op("Mul", shares, b.constant(bins)), b.ints(-1), keepdims=0)
        return model(b, {summed: 1}), [(4, 64)]
    return model(b, {b.op("MatMul", shares, b.constant(bins.reshape(16, 1))): 1}), [(4, 64, 1)]


def spectral_head() -> Made:
    """An output's weights divided by their largest singular value, worked out by vectors kept beside them."""
    b = GraphBuilder()
    weight = b.weight(4, 32)
    left = b.op("MatMul", b.constant(np.full((1, 4), 0.5, np.float32)), weight)
    sigma = b.op("MatMul", left, b.weight(32, 1))
    kernel = b.op("Reshape", b.op("Div", weight, sigma), b.ints(4, 32, 1, 1))
    return model(b, {b.op("Conv", trunk(b), kernel, b.weight(4)): 1}), [(4, 8, 8)]


HEADS: dict[str, Callable[[], Made]] = {
    "joined": joined_head,
    "anchored": anchored_head,
    "argmax": argmax_head,
    "confidence": confidence_head,
    "topk": topk_head,
    **{f"bins by {kind}": lambda kind=kind: binned_head(kind) for kind in ("conv", "matmul", "sum", "geometric")},
}


def dims(path: Path) -> list[Dim]:
    return list(bot_onnx.inspect(path).structure.dims.values())


def run(path: Path, shape: tuple[int, ...] = (2, 3, 8, 8)) -> list[np.ndarray]:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return [np.asarray(y) for y in onnxruntime.InferenceSession(str(path)).run(None, {"x": x})]


def resized(path: Path, spec: dict[str, object]) -> Path:
    out = path.with_name("out.onnx")
    bot_onnx.resize(path, spec, out, force=True)
    return out


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", HEADS)
def test_heads_keep_their_outputs(name: str, width: float, tmp_path: Path) -> None:
    made, shapes = HEADS[name]()
    source = save(made, tmp_path)
    out = resized(source, {"width": width})
    old, new = run(source), run(out)
    assert [y.shape[1:] for y in new] == shapes == [y.shape[1:] for y in old]
    kernels = [list(t.dims) for t in onnx.load(out).graph.initializer]
    assert [int(32 * width), int(16 * width), 3, 3] in kernels
    if width > 1:
        for before, after in zip(old, new, strict=True):
            np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * max(1.0, float(np.abs(before).max())))


@pytest.mark.parametrize("width", WIDTHS)
def test_outputs_stay_whose_weights_are_normalised_by_vectors(width: float, tmp_path: Path) -> None:
    made, shapes = spectral_head()
    source = save(made, tmp_path)
    assert [dim.role for dim in dims(source) if dim.size == 4] == ["out"]
    assert [y.shape[1:] for y in run(resized(source, {"width": width}))] == shapes


def test_dims_name_an_output_and_inspect_shows_it(tmp_path: Path) -> None:
    made, _ = joined_head()
    source = save(made, tmp_path)
    (output,) = [value.name for value in made.graph.output]
    shown = {dim.size: dim for dim in dims(source) if dim.outputs}
    assert {size: (dim.role, dim.outputs) for size, dim in shown.items()} == {
        4: ("out", (output,)),
        18: ("out", (output,)),
    }
    told = inspection_json(bot_onnx.inspect(source))["structure"]["dims"]
    assert json.loads(json.dumps(told))[shown[18].id]["outputs"] == [output]
    text = io.StringIO()
    console = Console(width=120, file=text)
    console.print(inspect_report(bot_onnx.inspect(source)))
    (row,) = [line.split() for line in text.getvalue().splitlines() if line.split()[-1:] == ["stays"]][1:]
    assert row == [shown[18].id, shown[18].name, "18", "out", output, "stays"]
    (grown,) = run(resized(source, {"dims": {shown[18].name: 20}}))
    assert grown.shape == (2, 24, 64)


def classifier(hidden: int = 8) -> GraphBuilder:
    """A recurrent layer, and as many classes as it has channels."""
    b = GraphBuilder()
    gates = (b.weight(1, 4 * hidden, 5), b.weight(1, 4 * hidden, hidden), b.weight(1, 8 * hidden))
    states = b.op("LSTM", "x", *gates, outputs=1, hidden_size=hidden)
    x = b.op("Squeeze", states, b.ints(1))
    b.op("Sigmoid", b.op("Add", b.op("MatMul", x, b.weight(hidden, hidden)), b.weight(hidden)))
    return b


@pytest.mark.parametrize("spec", [{"width": 0.5}, {"width": 2}, {"hidden": 4}, {"hidden": 16}])
def test_classes_never_follow_hidden(spec: dict[str, float], tmp_path: Path) -> None:
    b = classifier()
    source = save(model(b, {b.nodes[-1].output[0]: 1}, (7, "batch", 5)), tmp_path)
    (old,), (new,) = run(source, (7, 2, 5)), run(resized(source, dict(spec)), (7, 2, 5))
    assert new.shape == old.shape == (7, 2, 8)
    if spec.get("width") == 2:
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-5)


def test_a_stage_that_an_output_shows_follows_the_network_and_is_told(tmp_path: Path) -> None:
    b = GraphBuilder()
    first = b.op("Relu", conv(b, "x", 3, 16, 3))
    second = b.op("Relu", conv(b, first, 16, 32, 3))
    source = save(model(b, {first: 1, second: 1}), tmp_path)
    plan = bot_onnx.plan(source, {"width": 2})
    assert any(first in note and "16 -> 32" in note for note in plan.notes)
    shapes = [y.shape[1] for y in run(resized(source, {"width": 2}))]
    assert shapes == [32, 32]  # the second one is read by nothing: it is an output alone


@pytest.mark.parametrize("name", ["/kernel/Reshape", "/spatial_attn/input", "set at run time by the input"])
def test_names_of_nodes_decide_nothing(name: str, tmp_path: Path) -> None:
    def regrouped() -> Made:  # a Reshape that cannot be followed
        b = GraphBuilder()
        x = b.op("Reshape", b.op("MatMul", "x", b.weight(16, 16)), b.ints(0, 16, 15))
        return model(b, {b.op("MatMul", x, b.weight(15, 8)): 1}, ("batch", 15, 16)), []

    for make in (regrouped, joined_head, topk_head, spectral_head):
        plain, _ = make()
        renamed = onnx.ModelProto()
        renamed.CopyFrom(plain)
        for number, node in enumerate(renamed.graph.node):
            node.name = f"{name} picks elements, number of equal {number}"
        before, after = (dims(save(made, tmp_path, f"{at}.onnx")) for at, made in enumerate((plain, renamed)))
        assert [(d.name, d.role, d.frozen is None) for d in before] == [
            (d.name, d.role, d.frozen is None) for d in after
        ]


def waves(samples: int = 32) -> np.ndarray:
    """Real and imaginary parts of a short Fourier transform, as kernels."""
    angles = 2 * np.pi * np.outer(np.arange(samples // 2 + 1), np.arange(samples)) / samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    return np.concatenate([np.cos(angles) * window, -np.sin(angles) * window])[:, None].astype(np.float32)


def bands(frequencies: int = 34, count: int = 8) -> np.ndarray:
    centres = np.linspace(0, frequencies, count + 2)
    apart = np.abs(np.arange(frequencies)[:, None] - centres[None, 1:-1]) / (centres[1] - centres[0])
    return np.maximum(0, 1 - apart).astype(np.float32)


def test_bases_of_sound_keep_their_axes(tmp_path: Path) -> None:
    b = GraphBuilder()
    spectrum = b.op("Conv", "x", b.constant(waves(), "basis"), strides=[16])
    filtered = b.op("MatMul", b.op("Transpose", b.op("Mul", spectrum, spectrum), perm=[0, 2, 1]), b.constant(bands()))
    inside = b.op("Relu", b.op("MatMul", filtered, b.weight(8, 24)))
    source = save(model(b, {b.op("MatMul", inside, b.weight(24, 5)): 1}, ("batch", 1, 64)), tmp_path)
    fixed = {dim.size for dim in dims(source) if dim.frozen is not None}
    assert {34, 32, 8} <= fixed
    out = resized(source, {"width": 2})
    np.testing.assert_allclose(run(out, (2, 1, 64))[0], run(source, (2, 1, 64))[0], rtol=1e-4, atol=1e-4)


def test_a_code_that_is_compared_number_by_number_is_a_vocabulary(tmp_path: Path) -> None:
    b = GraphBuilder()
    same = b.op("Equal", b.op("Unsqueeze", "x", b.ints(2)), b.constant(np.arange(26)))
    inside = b.op("Relu", b.op("MatMul", b.op("Cast", same, to=1), b.weight(26, 24)))
    out = b.op("MatMul", inside, b.weight(24, 5))
    source = save(b.model([("x", ["batch", "time"])], [out], integer_inputs=["x"], rank=3), tmp_path)
    assert [dim.role for dim in dims(source) if dim.size == 26] == ["vocab"]
    halved = resized(source, {"width": 0.5})
    assert [dim.size for dim in dims(halved) if dim.role == "vocab"] == [26]


def shared_layers(*, outside: bool) -> onnx.ModelProto:
    """Four layers of one and the same weights, which an exporter transposed once for all, or folded."""
    b = GraphBuilder()
    rng = np.random.default_rng(1)
    up, down = (rng.standard_normal(shape).astype(np.float32) * 0.2 for shape in ((8, 24), (24, 8)))
    if outside:
        first, second = (b.op("Transpose", b.constant(w.T.copy()), perm=[1, 0]) for w in (up, down))
    else:
        first, second = b.constant(up), b.constant(down)
    x = b.op("MatMul", "x", b.weight(4, 8))
    scale, shift = b.constant(np.full(8, 0.9, np.float32)), b.constant(np.full(8, 0.1, np.float32))
    for _ in range(4):
        inside = b.op("Relu", b.op("MatMul", b.op("LayerNormalization", x, scale, shift), first))
        x = b.op("Add", x, b.op("MatMul", inside, second))
    return b.model([("x", ["batch", 4])], [b.op("MatMul", x, b.weight(8, 3))])


def test_shared_weights_have_the_same_roles_however_they_are_transposed(tmp_path: Path) -> None:
    for outside in (False, True):
        source = save(shared_layers(outside=outside), tmp_path)
        assert {dim.role: dim.size for dim in dims(source) if dim.role in ("hidden", "intermediate")} == {
            "hidden": 8,
            "intermediate": 24,
        }
        plan = bot_onnx.plan(source, {"hidden": 4})
        assert {dim.role: dim.target for dim in plan.dims}["intermediate"] == 12

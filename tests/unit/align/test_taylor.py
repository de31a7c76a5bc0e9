"""What heads, neurons and channels are worth by gradients, against formulas written out on graphs made by hand."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import bot_onnx
from bot_onnx._align.taylor import directions
from bot_onnx._runs.runtime import session
from bot_onnx.demo import held_out, model_file
from bot_onnx.errors import DataError, MissingRuntimeError, ResampleError
from tests.graphs import GraphBuilder, save

pytestmark = pytest.mark.exporter
Array = NDArray[Any]
INNER, HEADS, HEAD_DIM, KV_HEADS, GROUP, OUT = 10, 4, 3, 3, 2, 4


def ending(b: GraphBuilder, value: str, bounded: bool) -> onnx.ModelProto:
    """The mean over positions is the output: logits, or (bounded) numbers like others."""
    mean = b.op("ReduceMean", value, axes=[1], keepdims=0)
    last = b.op("Tanh", mean) if bounded else mean
    return b.model([("x", ["batch", "sequence", 6])], [last])


def neurons(*, bounded: bool = False) -> onnx.ModelProto:
    b = GraphBuilder(1)
    inside = b.op("Relu", b.op("Add", b.op("MatMul", "x", spread(b, 6, INNER, "up")), b.weight(INNER, name="upb")))
    return ending(b, b.op("MatMul", inside, spread(b, INNER, OUT, "read")), bounded)


def heads(*, bounded: bool = False, group: int = 1, kv_heads: int = HEADS) -> onnx.ModelProto:
    b, count = GraphBuilder(2), kv_heads * group

    def split(value: str, number: int) -> str:
        return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, number, HEAD_DIM)), perm=[0, 2, 1, 3])

    q = split(b.op("MatMul", "x", b.weight(6, count * HEAD_DIM, name="q")), count)
    shared = []
    for part in "kv":
        made = split(b.op("MatMul", "x", spread(b, 6, kv_heads * HEAD_DIM, part)), kv_heads)
        if group > 1:
            grown = b.op("Expand", b.op("Unsqueeze", made, b.ints(2)), b.ints(1, 1, group, 1, 1))
            made = b.op("Reshape", grown, b.ints(0, count, -1, HEAD_DIM))
        shared.append(made)
    scores = b.op("MatMul", q, b.op("Transpose", shared[0], perm=[0, 1, 3, 2]))
    scores = b.op("Softmax", b.op("Mul", scores, b.constant(np.array(HEAD_DIM**-0.5, np.float32))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, shared[1]), perm=[0, 2, 1, 3])
    flat = b.op("Reshape", mixed, b.ints(0, 0, count * HEAD_DIM))
    return ending(b, b.op("MatMul", flat, spread(b, count * HEAD_DIM, OUT, "read")), bounded)


def spread(b: GraphBuilder, rows: int, columns: int, name: str) -> str:
    """Weights of very different sizes, so that what is worth most by one measure is not so by another."""
    rng = np.random.default_rng(len(name) + rows)
    return b.constant((rng.standard_normal((rows, columns)) * np.exp(rng.standard_normal(columns))).astype("f4"), name)


def samples(folder: Path, *shape: int) -> Path:
    path = folder / "samples.npz"
    np.savez(path, x=np.random.default_rng(7).standard_normal(shape).astype(np.float32))
    return path


def run(model: onnx.ModelProto, given: Path, name: str) -> Array:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend([onnx.ValueInfoProto(name=name)])
    with np.load(given) as archive:
        return np.asarray(session(shown.SerializeToString()).run(None, dict(archive))[0], dtype=np.float64)


def arrays(model: onnx.ModelProto | Path) -> dict[str, Array]:
    proto = onnx.load(model) if isinstance(model, Path) else model
    return {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in proto.graph.initializer}


def expected(model: onnx.ModelProto, given: Path, slopes: Array, bounded: bool) -> Array:
    """½ E Jᵀ F J: ``slopes`` are those of what stands before the output's function, ``[samples, units, outputs]``."""
    outputs = run(model, given, model.graph.output[0].name)
    if bounded:
        slopes = slopes * (1 - outputs[:, None] ** 2)
        return np.asarray((slopes**2).sum(axis=2).mean(axis=0) / (OUT * outputs.var()))
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    fisher = np.eye(OUT) * shares[:, None] - shares[:, :, None] * shares[:, None]
    return np.asarray(0.5 * np.einsum("nuo,nop,nup->nu", slopes, fisher, slopes).mean(axis=0))


def top(worth: Array, count: int) -> list[int]:
    return sorted(np.argsort(-worth, kind="stable")[:count].tolist())


def resized(model: onnx.ModelProto, folder: Path, spec: dict[str, Any], given: Path) -> dict[str, Array]:
    out = folder / "out.onnx"
    result = bot_onnx.resize(save(model, folder), {**spec, "keep": "taylor"}, out, force=True, calibration=given)
    assert result.plan.align == "select"
    assert any("chosen by taylor" in note for note in result.plan.notes)
    assert any("gradients are those on" in note for note in result.plan.notes)
    assert any("the samples" in one for one in result.plan.computed)
    return arrays(out)


def size_of(model: onnx.ModelProto, folder: Path, size: int) -> str:
    """Name of the dim of a size."""
    dims = bot_onnx.inspect(save(model, folder)).structure.dims.values()
    return next(dim.name for dim in dims if dim.size == size and not dim.parts)


@pytest.mark.parametrize("bounded", [False, True])
def test_neurons(bounded: bool, tmp_path: Path) -> None:
    model, given = neurons(bounded=bounded), samples(tmp_path, 6, 5, 6)
    w = arrays(model)
    fired = run(model, given, next(node.input[0] for node in model.graph.node if "read" in node.input))
    slopes = fired.mean(axis=1)[:, :, None] * w["read"]
    stay = top(expected(model, given, slopes, bounded), 4)
    made = resized(model, tmp_path, {"dims": {size_of(model, tmp_path, INNER): 4}}, given)
    np.testing.assert_array_equal(made["up"], w["up"][:, stay])
    np.testing.assert_array_equal(made["read"], w["read"][stay])


@pytest.mark.parametrize("bounded", [False, True])
def test_heads(bounded: bool, tmp_path: Path) -> None:
    """A head's gate is on all of its channels: what they do is summed, and then squared."""
    model, given = heads(bounded=bounded), samples(tmp_path, 6, 5, 6)
    w = arrays(model)
    mixed = run(model, given, next(node.input[0] for node in model.graph.node if "read" in node.input))
    parts = mixed.mean(axis=1).reshape(6, HEADS, HEAD_DIM)
    slopes = np.einsum("nhc,hco->nho", parts, w["read"].reshape(HEADS, HEAD_DIM, OUT))
    stay = top(expected(model, given, slopes, bounded), 2)
    places = [head * HEAD_DIM + channel for head in stay for channel in range(HEAD_DIM)]
    made = resized(model, tmp_path, {"heads": 2}, given)
    np.testing.assert_array_equal(made["q"], w["q"][:, places].astype(np.float32))
    np.testing.assert_array_equal(made["read"], w["read"][places])


@pytest.mark.parametrize(("kv_heads", "group"), [(2, GROUP), (KV_HEADS, 1), (1, 1)])
def test_groups(kv_heads: int, group: int, tmp_path: Path) -> None:
    """The gate of a key and value head is on all of its query heads."""
    model, given = heads(group=GROUP, kv_heads=KV_HEADS), samples(tmp_path, 6, 5, 6)
    w = arrays(model)
    mixed = run(model, given, next(node.input[0] for node in model.graph.node if "read" in node.input))
    parts = mixed.mean(axis=1).reshape(6, KV_HEADS * GROUP, HEAD_DIM)
    slopes = np.einsum("nhc,hco->nho", parts, w["read"].reshape(KV_HEADS * GROUP, HEAD_DIM, OUT))
    inner = expected(model, given, slopes, False).reshape(KV_HEADS, GROUP)
    outer = expected(model, given, slopes.reshape(6, KV_HEADS, GROUP, OUT).sum(axis=2), False)
    query = [head * GROUP + one for head in top(outer, kv_heads) for one in top(inner[head], group)]
    places = [head * HEAD_DIM + channel for head in query for channel in range(HEAD_DIM)]
    made = resized(model, tmp_path, {"kv_heads": kv_heads, "heads": kv_heads * group}, given)
    np.testing.assert_array_equal(made["q"], w["q"][:, places].astype(np.float32))
    np.testing.assert_array_equal(made["read"], w["read"][places])


def test_channels_that_two_weights_read(tmp_path: Path) -> None:
    """One gate for all that is read of a channel: what its readers do is summed, and then squared."""
    b = GraphBuilder(3)
    x = b.op("Conv", "x", b.weight(INNER, 2, 3, 3, name="first"), b.weight(INNER, name="bias"), pads=[1, 1, 1, 1])
    x = b.op("Relu", x)
    sides = [b.op("Conv", x, b.weight(OUT, INNER, 1, 1, name=name)) for name in ("left", "right")]
    turned = b.op("Transpose", b.op("Tanh", sides[1]), perm=[0, 1, 3, 2])
    b.op("ReduceMean", b.op("Add", sides[0], turned), axes=[2, 3], keepdims=0)
    model, given = b.model([("x", ["batch", 2, 6, 6])], [b.nodes[-1].output[0]]), samples(tmp_path, 6, 2, 6, 6)
    w = arrays(model)
    read = run(model, given, x)
    right = run(model, given, sides[1])
    slopes = np.einsum("nuxy,ou->nuoxy", read, w["left"][:, :, 0, 0])
    slopes = slopes + np.einsum("nuxy,ou,noxy->nuoxy", read, w["right"][:, :, 0, 0], 1 - np.tanh(right) ** 2)
    stay = top(expected(model, given, slopes.mean(axis=(3, 4)), False), 5)
    made = resized(model, tmp_path, {"dims": {size_of(model, tmp_path, INNER): 5}}, given)
    np.testing.assert_array_equal(made["first"], w["first"][stay].astype(np.float32))
    np.testing.assert_array_equal(made["left"], w["left"][:, stay].astype(np.float32))


def fisher(found: Any, names: list[str]) -> Array:
    """Σ d dᵀ of directions."""
    flat = [(weight, np.concatenate([towards[name].ravel() if name in towards else np.zeros(size) for name, size in
             zip(names, (8, 3), strict=True)])) for weight, towards in found]  # fmt: skip
    return np.asarray(sum(weight * np.outer(d, d) for weight, d in flat))


def test_directions_are_a_factor_of_the_fisher_information() -> None:
    """Logits of two positions, and three numbers of variance 5."""
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.standard_normal((1, 2, 4)), "others": rng.standard_normal((1, 3))}
    shares = np.exp(outputs["logits"][0]) / np.exp(outputs["logits"][0]).sum(axis=1, keepdims=True)
    wanted = np.zeros((11, 11))
    for place, p in enumerate(shares):
        wanted[place * 4 : place * 4 + 4, place * 4 : place * 4 + 4] = (np.diag(p) - np.outer(p, p)) / 2
    wanted[8:, 8:] = np.eye(3) * 2 / (3 * 5.0)
    given = frozenset({"logits"}), {"others": 5.0}
    exact = fisher(directions(outputs, *given, rng), ["logits", "others"])
    np.testing.assert_allclose(exact, wanted, atol=1e-12)


def test_random_signs_estimate_it_without_bias() -> None:
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.standard_normal((1, 1, 40))}
    p = np.exp(outputs["logits"][0, 0]) / np.exp(outputs["logits"][0, 0]).sum()
    found = [
        weight * np.outer(towards["logits"], towards["logits"])
        for _ in range(500)
        for weight, towards in directions(outputs, frozenset({"logits"}), {}, rng)
    ]
    assert len(found) == 4000
    np.testing.assert_allclose(np.sum(found, axis=0) / 500, np.diag(p) - np.outer(p, p), atol=6e-3)


def test_layers_behind_count(tmp_path: Path) -> None:
    """Deep in a network, against differences of the outputs when a gate moves."""
    with model_file() as path:
        model = onnx.load(path)
    images = held_out().images[:12]
    np.savez(tmp_path / "samples.npz", image=images)
    with model_file() as path:
        bot_onnx.resize(
            path, {"heads": 2, "hidden": 64, "keep": "taylor"}, tmp_path / "out.onnx",
            calibration=tmp_path / "samples.npz",
        )  # fmt: skip
    made = arrays(tmp_path / "out.onnx")
    for layer in (0, 4):
        worth = gated_worth(model, f"layers.{layer}.attention.output", images)
        source = arrays(model)[f"layers.{layer}.attention.value.bias"].reshape(4, 16)
        found = made[f"layers.{layer}.attention.value.bias"].reshape(2, 16)
        stay = [int(np.argmin(np.abs(source - row).sum(axis=1))) for row in found]
        assert stay == top(worth, 2)


def gated_worth(model: onnx.ModelProto, module: str, images: Array) -> Array:
    """½ E Jᵀ F J of the heads that a module reads, J by central differences of a gate that is put in."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    add = next(node for node in proto.graph.node if f"{module}.bias" in node.input)
    place, reader = next(
        (n, node) for n, node in enumerate(proto.graph.node) if node.output[0] in add.input and node.op_type == "MatMul"
    )
    proto.graph.input.append(helper.make_tensor_value_info("gate", onnx.TensorProto.FLOAT, [64]))
    proto.graph.node.insert(place, helper.make_node("Mul", [reader.input[0], "gate"], ["gated"]))
    reader.input[0] = "gated"
    runner, step = session(proto.SerializeToString()), 0.02

    def logits(gate: Array) -> Array:
        return np.asarray(runner.run(None, {"image": images, "gate": gate.astype("f4")})[0], dtype=np.float64)

    outputs = logits(np.ones(64))
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    worth = []
    for head in range(4):
        moved = np.repeat(np.eye(4)[head], 16) * step
        slope = (logits(np.ones(64) + moved) - logits(np.ones(64) - moved)) / (2 * step)
        worth.append(0.5 * ((shares * slope**2).sum(axis=1) - (shares * slope).sum(axis=1) ** 2).mean())
    return np.array(worth)


def test_samples_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gradients are measured on samples .* --calibration"):
        bot_onnx.plan(save(heads(), tmp_path), {"heads": 2, "keep": "taylor"})


@pytest.mark.parametrize("missing", ["torch", "onnx2pytorch"])
def test_what_takes_gradients_is_named_where_it_is_missing(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan says so already, before any weight is read."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingRuntimeError, match=r"is needed to take gradients .* Install it with: .*recover"):
        bot_onnx.plan(save(heads(), tmp_path), {"heads": 2, "keep": "taylor"}, calibration=samples(tmp_path, 6, 5, 6))


def test_ops_of_a_runtime_are_refused_by_name(tmp_path: Path) -> None:
    """What the converter does not know: the plan is refused, and says by what else to choose."""
    model = neurons()
    place, node = next((n, node) for n, node in enumerate(model.graph.node) if node.op_type == "Relu")
    model.graph.node.remove(node)
    model.graph.node.insert(
        place, helper.make_node("Gelu", node.input, node.output, name="gelu", domain="com.microsoft")
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    spec: Mapping[str, Any] = {"dims": {size_of(model, tmp_path, INNER): 4}, "keep": "taylor"}
    with pytest.raises(ResampleError, match=r"'gelu' is a com.microsoft::Gelu.*choose by 'activation'"):
        bot_onnx.plan(save(model, tmp_path), spec, calibration=samples(tmp_path, 6, 5, 6))

"""A mask of a huge number hides nothing from the proof: what is promised behind one is so on zeros and ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx.errors import ProofError
from tests.graphs import GraphBuilder, save
from tests.masked_scores import KINDS, masked_attention

EXACT = 1e-5


def far(source: Path, out: Path, kind: str) -> float:
    """How far a grown network's first output is from its source's where a mask hides some keys, as a part of it."""
    _, dtype, (kept, hidden) = KINDS[kind]
    rng = np.random.default_rng(3)
    mask = np.full((2, 5), kept)
    mask[1, 3:] = hidden
    given = {name: rng.standard_normal((2, size, 6)).astype(np.float32) for name, size in (("q", 3), ("k", 5))}
    given["m"] = mask.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
    ours, theirs = (session(str(path)).run(None, given)[0] for path in (out, source))
    assert np.isfinite(theirs).all()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_masked_scores_stay_what_they_are(kind: str, width: int, tmp_path: Path) -> None:
    """Without a mask the weights behind the sum take its factor; a fill of -1e9 must not make that look needless."""
    source, out = tmp_path / "source.onnx", tmp_path / "out.onnx"
    onnx.save(masked_attention(kind), source)
    plan = bot_onnx.resize(source, {"width": width}, out).plan
    assert plan.proof.status == "proven" and plan.promise.kept
    assert far(source, out, kind) < EXACT


def test_masked_scores_that_are_an_output_are_compared(tmp_path: Path) -> None:
    source, out = tmp_path / "shown.onnx", tmp_path / "out.onnx"
    onnx.save(masked_attention("picked", shown=True), source)
    assert bot_onnx.resize(source, {"width": 2}, out).plan.promise.kept
    assert far(source, out, "picked") < EXACT


def graph_attention(channels: int = 8) -> onnx.ModelProto:
    """Nodes that read each other where ``adjacency [nodes, nodes]`` is above zero: one open size, run at 2 and at 3."""
    b = GraphBuilder()
    z = b.op("MatMul", "x", b.weight(6, channels))
    ends = [b.op("ReduceSum", b.op("Mul", z, b.weight(channels)), b.ints(1), keepdims=1) for _ in range(2)]
    scores = b.op("LeakyRelu", b.op("Add", ends[0], b.op("Transpose", ends[1], perm=[1, 0])), alpha=0.2)
    joined = b.op("Greater", "adjacency", b.constant(np.float32(0)))
    masked = b.op("Where", joined, scores, b.constant(np.float32(-9e15)))
    y = b.op("MatMul", b.op("MatMul", b.op("Softmax", masked, axis=-1), z), b.weight(channels, 3))
    return b.model([("x", ["nodes", 6]), ("adjacency", ["nodes", "nodes"])], [y])


def test_graph_attention_keeps_its_function(tmp_path: Path) -> None:
    source, out = save(graph_attention(), tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"width": 2}, out).plan.promise.kept
    rng = np.random.default_rng(5)
    near = (np.eye(7) + (rng.random((7, 7)) < 0.5)).clip(0, 1).astype(np.float32)
    given = {"x": rng.standard_normal((7, 6)).astype(np.float32), "adjacency": near}
    ours, theirs = (session(str(path)).run(None, given)[0] for path in (out, source))
    np.testing.assert_allclose(ours, theirs, atol=EXACT * np.abs(theirs).max())


@pytest.mark.parametrize("number", [1 / 8, 0.1])
def test_a_scale_behind_a_mask_follows_or_weights_take_its_factor(number: float, tmp_path: Path) -> None:
    """Scores that are masked and then scaled: beside the fill they are a multiple until the scale makes up for it."""
    model = masked_attention("picked")
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    scale = onnx.helper.make_node("Mul", [softmax.input[0], "scale"], ["scaled"], "behind")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(number), "scale"))
    model.graph.node.insert(list(model.graph.node).index(softmax), scale)
    softmax.input[0] = "scaled"
    source, out = tmp_path / "scaled.onnx", tmp_path / "out.onnx"
    onnx.save(model, source)
    plan = bot_onnx.resize(source, {"width": 2}, out).plan
    assert [formula.formula for formula in plan.proof.formulas] == (["1/n"] if number == 1 / 8 else [])
    assert plan.promise.kept and far(source, out, "picked") < EXACT


@pytest.mark.parametrize("masked", [False, True])
def test_what_cannot_be_set_right_without_a_mask_cannot_behind_one(masked: bool, tmp_path: Path) -> None:
    """Scores that are a sum of what has no weights of its own, but for those before a bend."""
    b = GraphBuilder()
    scores = b.op("ReduceSum", b.op("Tanh", b.op("MatMul", "x", b.weight(5, 12))), b.ints(-1), keepdims=0)
    if masked:
        hidden = b.op("Mul", b.op("Sub", b.constant(np.float32(1)), "m"), b.constant(np.float32(-1e9)))
        scores = b.op("Add", scores, hidden)
    ports = [("x", ["n", "s", 5]), *([("m", ["n", "s"])] if masked else [])]
    source = save(b.model(ports, [b.op("Softmax", scores, axis=-1)]), tmp_path)
    with pytest.raises(ProofError, match="no copy of it at Softmax"):
        bot_onnx.plan(source, {"width": 2})

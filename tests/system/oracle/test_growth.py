"""Whole networks, made by hand, compute after growing at any ratio what they computed before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save

RNG = np.random.default_rng(0)


def grown(path: Path, spec: dict[str, Any], feed: np.ndarray, **more: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Outputs before and after, and the plan."""
    target = path.parent / "grown.onnx"
    result = bot_onnx.resize(path, spec, target, device="cpu", against=False, force=True, **more)
    name = onnx.load(path).graph.input[0].name
    before, after = (session(p.read_bytes()).run(None, {name: feed})[0] for p in (path, target))
    return before, after, result.plan


def same(before: np.ndarray, after: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(after, before, atol=tolerance * np.abs(before).max(), rtol=0)


def norm(b: GraphBuilder, x: str, kind: str) -> str:
    """A norm over the last of 12 channels, in one op, or written out: LayerNorm, RMSNorm, RMSNorm by 1 + w."""
    scale = b.constant((1 + 0.3 * RNG.standard_normal(12)).astype(np.float32))
    if kind == "op":
        return b.op("LayerNormalization", x, scale, b.weight(12), epsilon=0.1)
    if kind == "layer":
        x = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1], keepdims=1))
    mean = b.op("ReduceMean", b.op("Mul", x, x), axes=[-1], keepdims=1)
    root = b.op("Sqrt", b.op("Add", mean, b.constant(np.float32(0.1))))
    if kind == "plus":
        scale = b.op("Add", scale, b.constant(np.float32(1)))
    y = b.op("Mul", b.op("Div", x, root), scale)
    return b.op("Add", y, b.weight(12)) if kind == "layer" else y


def network(folder: Path, kind: str, *, spelled: str = "Add", tied: bool = False, scaled: bool = False) -> Path:
    """Three pre-norm layers over looked-up tokens, and a head."""
    b = GraphBuilder()
    table = b.weight(17, 12, name="table")
    x = b.op("Gather", table, "ids")
    if scaled:
        x = b.op("Mul", x, b.constant(np.float32(np.sqrt(12))))
    for _ in range(3):
        up = b.op("Tanh", b.op("Add", b.op("MatMul", norm(b, x, kind), b.weight(12, 20)), b.weight(20)))
        x = b.op(spelled, x, b.op("MatMul", up, b.weight(20, 12)))
    head = b.op("Transpose", table, perm=[1, 0]) if tied else b.weight(12, 5)
    logits = b.op("MatMul", norm(b, x, kind), head)
    return save(b.model([("ids", ["batch", "length"])], [logits], integer_inputs=["ids"], rank=3), folder)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["op", "layer", "rms", "plus"])
@pytest.mark.parametrize("hidden", [18, 24, 36, 30])
@pytest.mark.parametrize("tied", [False, True])
def test_pre_norm_networks_grow_exactly(kind: str, hidden: int, tied: bool, tmp_path: Path) -> None:
    path = network(tmp_path, kind, tied=tied, scaled=kind == "plus")
    ids = RNG.integers(0, 17, (2, 6))
    before, after, plan = grown(path, {"hidden": hidden, "layers": 5, "intermediate": 33}, ids)
    same(before, after)
    assert not any("function" in note for note in plan.notes)
    widened = hidden % 12 != 0
    assert any("epsilon" in patch.reason for patch in plan.constants) == widened


def test_residual_sums_count_in_any_spelling(tmp_path: Path) -> None:
    path = network(tmp_path, "op", spelled="Sum")
    assert bot_onnx.inspect(path).structure.residual == "pre-norm"
    before, after, _ = grown(path, {"hidden": 24, "layers": 6}, RNG.integers(0, 17, (2, 6)))
    same(before, after)


def test_sums_of_three_operands_are_residual_sums(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(7, 12))
    for _ in range(3):
        y = norm(b, x, "op")
        branches = [b.op("MatMul", b.op("Tanh", b.op("MatMul", y, b.weight(12, 9))), b.weight(9, 12)) for _ in range(2)]
        x = b.op("Sum", x, *branches)
    path = save(b.model([("x", ["n", 7])], [b.op("MatMul", norm(b, x, "op"), b.weight(12, 3))]), tmp_path)
    before, after, plan = grown(path, {"layers": 5}, RNG.standard_normal((4, 7)).astype(np.float32))
    assert plan.layers[0].target == 5
    same(before, after)


@pytest.mark.parametrize("width", [1.25, 1.5, 2, 2.5, 3, 5])
def test_convolutions_grow_exactly(width: float, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(16, 3, 1, 1), b.weight(16)))
    x = b.op("Relu", b.op("Conv", x, b.weight(16, 16, 1, 1), b.weight(16)))
    out = b.op("Conv", x, b.weight(4, 16, 1, 1), b.weight(4))
    path = save(b.model([("x", ["n", 3, 8, 8])], [out], rank=4), tmp_path)
    before, after, _ = grown(path, {"width": width}, RNG.standard_normal((2, 3, 8, 8)).astype(np.float32))
    same(before, after)


@pytest.mark.parametrize("hidden", [24, 32, 48])
def test_one_huge_weight_does_not_make_huge_noise(hidden: int, tmp_path: Path) -> None:
    b = GraphBuilder()
    into, state = 0.2 * RNG.standard_normal((1, 64, 8)), 0.2 * RNG.standard_normal((1, 64, 16))
    state[0, 3, 5], into[0, 1, 2] = 1e3, -1e3
    y = b.op("LSTM", "x", *(b.constant(a.astype(np.float32)) for a in (into, state)), hidden_size=16)
    out = b.op("MatMul", b.op("Squeeze", y, b.ints(1)), b.weight(16, 3))
    path = save(b.model([("x", ["s", "n", 8])], [out], rank=3), tmp_path)
    before, after, _ = grown(path, {"hidden": hidden}, RNG.standard_normal((7, 2, 8)).astype(np.float32))
    same(before, after)


@pytest.mark.parametrize("width", [1.5, 2, 3])
def test_half_precision_files_grow_within_it(width: float, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", b.op("Cast", "x", to=TensorProto.FLOAT16), b.weight(8, 32))
    out = b.op("Cast", b.op("MatMul", b.op("Relu", x), b.weight(32, 5)), to=TensorProto.FLOAT)
    model = b.model([("x", ["n", 8])], [out])
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    path = save(model, tmp_path)
    before, after, _ = grown(path, {"width": width}, RNG.standard_normal((6, 8)).astype(np.float32))
    same(before, after, 4e-3)


def test_a_stream_behind_norms_is_kept_nearly_and_the_plan_says_so(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(7, 12))
    for _ in range(2):
        x = norm(
            b, b.op("Add", x, b.op("MatMul", b.op("Tanh", b.op("MatMul", x, b.weight(12, 9))), b.weight(9, 12))), "op"
        )
    path = save(b.model([("x", ["n", 7])], [b.op("MatMul", x, b.weight(12, 3))]), tmp_path)
    feed = RNG.standard_normal((50, 7)).astype(np.float32)
    before, after, plan = grown(path, {"hidden": 18}, feed)
    assert any("nearly, not exactly" in note for note in plan.notes)
    assert np.sum(before * after) / np.linalg.norm(before) / np.linalg.norm(after) > 0.98
    same(*grown(path, {"hidden": 36}, feed)[:2])


def test_copies_in_different_numbers_are_not_said_to_be_near(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(7, 12))
    for _ in range(2):
        gated = b.op("Mul", x, b.op("Sigmoid", x))
        x = norm(
            b,
            b.op("Add", gated, b.op("MatMul", b.op("Tanh", b.op("MatMul", x, b.weight(12, 9))), b.weight(9, 12))),
            "op",
        )
    path = save(b.model([("x", ["n", 7])], [b.op("MatMul", x, b.weight(12, 3))]), tmp_path)
    plan = bot_onnx.plan(path, {"hidden": 18})
    assert plan.promise.kept is False and "off by" in plan.promise.why
    assert any("in different numbers, which does not keep the function exactly" in note for note in plan.notes)
    assert not any("nearly" in note for note in plan.notes)
    assert bot_onnx.plan(path, {"hidden": 24}).promise.kept


def test_filters_that_are_asked_for_change_no_epsilon(tmp_path: Path) -> None:
    plan = bot_onnx.plan(network(tmp_path, "op"), {"hidden": 18}, options={"wavelet": "haar"})
    assert not any("epsilon" in patch.reason for patch in plan.constants)
    assert all(axis.law == "even" for stack in plan.stacks for axis in stack.task.axes)

"""Queries, keys and values as one matrix: three tensors and a fused one come to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import pywt

import bot_onnx
from bot_onnx._resample import make_options
from bot_onnx._runs.runtime import session
from bot_onnx.errors import ResampleError
from tests.graphs import save
from tests.qkv_graphs import HEAD_DIM, HEADS, LAYERS, SPELLINGS, Floats, Spelling, qkv_model, qkv_of

SMALLER, LARGER = {"hidden": 16, "heads": 2, "layers": 2}, {"hidden": 64, "heads": 8, "layers": 8}
FEEDS = {"x": np.random.default_rng(1).standard_normal((2, 5, 4)).astype(np.float32)}


def resized(spelling: Spelling, spec: dict[str, int], folder: Path, method: str, **options: Any) -> onnx.ModelProto:
    source, target = save(qkv_model(spelling), folder, f"{spelling}.onnx"), folder / f"{spelling} out.onnx"
    bot_onnx.resize(source, spec, target, method=method, options=options, against=False)
    return onnx.load(target)


def output(model: onnx.ModelProto) -> Floats:
    found: Floats = session(model.SerializeToString()).run(None, FEEDS)[0]
    return found


def test_the_spellings_are_one_network() -> None:
    first, *others = [output(qkv_model(spelling)) for spelling in SPELLINGS]
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)


@pytest.mark.spread
@pytest.mark.parametrize("spec", [SMALLER, LARGER, {"hidden": 24, "heads": 3}, {"heads": 6}])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("bot", {"preset": "paper"}),
        ("bot", {"preset": "paper-gpt"}),
        ("front", {"preset": "published"}),
        ("front", {"qkv": "one", "depth": "repeat"}),
    ],
)
def test_three_spellings_give_the_same_numbers(
    spec: dict[str, int], method: str, options: dict[str, str], tmp_path: Path
) -> None:
    first, *others = [resized(spelling, spec, tmp_path, method, **options) for spelling in SPELLINGS]
    for spelling, other in zip(SPELLINGS[1:], others, strict=True):
        np.testing.assert_allclose(output(other), output(first), atol=1e-5)
        for layer in range(spec.get("layers", LAYERS)):
            for mine, theirs in zip(
                qkv_of(first, "apart", layer, spec["heads"]), qkv_of(other, spelling, layer, spec["heads"]), strict=True
            ):
                np.testing.assert_allclose(theirs, mine, atol=1e-6)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_matrix_is_filtered_as_the_paper_does_it(spelling: Spelling, tmp_path: Path) -> None:
    """W_qkv [hidden, 3·hidden], low band of one level along both axes: filters run over heads and parts alike."""
    spec = {"hidden": 16, "heads": 2}
    got = resized(spelling, spec, tmp_path, "bot", preset="paper-gpt")
    source = qkv_model(spelling)
    for layer in range(LAYERS):
        whole, bias = qkv_of(source, spelling, layer, HEADS)
        for axis in range(2):
            whole = pywt.dwt(whole.astype(np.float64), "coif3", "periodization", axis=axis)[0]
        weight, small = qkv_of(got, spelling, layer, 2)
        np.testing.assert_allclose(weight, whole, atol=1e-6)
        np.testing.assert_allclose(small, pywt.dwt(bias.astype(np.float64), "coif3", "periodization")[0], atol=1e-6)


def test_apart_they_are_three_and_heads_stay_whole(tmp_path: Path) -> None:
    got = resized("apart", {"hidden": 16, "heads": 2}, tmp_path, "bot", preset="paper", qkv="apart")
    whole = qkv_of(qkv_model("apart"), "apart", 0, HEADS)[0].reshape(HEADS * HEAD_DIM, 3, HEADS, HEAD_DIM)
    expected = whole.reshape(16, 2, 3, 2, 2, HEAD_DIM).sum((1, 4)) / 2  # pairs of channels, pairs of heads, 1/√2 each
    np.testing.assert_allclose(qkv_of(got, "apart", 0, 2)[0], expected.reshape(16, -1), atol=1e-6)


def test_the_plan_says_what_is_made_together(tmp_path: Path) -> None:
    model = bot_onnx.open(save(qkv_model("apart"), tmp_path))
    plan = model.plan(bot_onnx.ResizeRequest(SMALLER, options={"preset": "paper"}))
    joint = {stack.joint for stack in plan.stacks if stack.joint}
    assert joint == set(model.structure.qkv) and len(joint) == 2  # matrices, biases
    assert plan.proof.status == "proven" and plan.promise.kept is False
    assert bot_onnx.Plan.from_json(plan.to_json()) == plan
    said = "Queries, keys and values, kept apart in a stack each, are resampled as one matrix."
    assert said in plan.notes and said not in model.plan(SMALLER).notes
    assert not any(stack.joint for stack in model.plan(SMALLER).stacks)
    grown = model.plan(bot_onnx.ResizeRequest(LARGER, options={"preset": "paper"}))
    assert grown.proof.status == "proven" and grown.promise.kept is False


def test_a_saved_plan_makes_the_same_file(tmp_path: Path) -> None:
    source, first, again = save(qkv_model("apart"), tmp_path), tmp_path / "first.onnx", tmp_path / "again.onnx"
    result = bot_onnx.resize(source, SMALLER, first, options={"preset": "paper-gpt"})
    bot_onnx.replay(source, result.plan, again)
    assert first.read_bytes() == again.read_bytes()


def test_what_is_read_from_elsewhere_stays_apart(tmp_path: Path) -> None:
    """Keys and values of another stream: no fused matrix would hold them with the queries."""
    proto = qkv_model("apart")
    first = next(node for node in proto.graph.node if "layers.0.k.weight" in node.input)
    extra = onnx.helper.make_node("Relu", [first.input[0]], ["elsewhere"])
    proto.graph.node.insert(list(proto.graph.node).index(first), extra)
    for node in proto.graph.node:
        if {"layers.0.k.weight", "layers.0.v.weight"} & set(node.input):
            node.input[0] = "elsewhere"
    structure = bot_onnx.open(save(proto, tmp_path)).structure
    assert not any("layers.0.q.weight" in stack.tensors for three in structure.qkv for stack in structure.stacks
                   if stack.id in three)  # fmt: skip


def test_values_are_not_kept_by_it() -> None:
    for options in ({}, {"convention": "value"}, {"preset": "paper", "convention": "value"}):
        with pytest.raises(ResampleError, match="qkv 'one' mixes queries with keys, which keeps no function"):
            make_options("bot", qkv="one", **options)
    assert make_options("bot", preset="paper").joins_qkv  # type: ignore[attr-defined]
    assert not make_options("bot", preset="paper", qkv="apart").joins_qkv  # type: ignore[attr-defined]
    assert not make_options("bot", preset="paper", convention="value").joins_qkv  # type: ignore[attr-defined]

"""Samples alone: what they decide where nothing else is said, and how to have it otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import DataError, ResampleError
from tests.graphs import GraphBuilder, residual_mlp_model, save
from tests.system.oracle.flow.test_shared_layers import FLOAT, Body, linear, through, weights
from tests.unit.align.test_refit import HIDDEN, arrays, convolutions, encoder, samples


def made(model: onnx.ModelProto, folder: Path, spec: dict[str, Any], given: Path, **options: Any) -> Any:
    """Weights of the resized model, and the plan."""
    out = folder / "out.onnx"
    result = bot_onnx.resize(save(model, folder), spec, out, calibration=given, force=True, **options)
    return arrays(out), result.plan


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("spec", [{"width": 0.5}, {"width": 0.5, "refit": "readers"}])
def test_channels_that_no_turn_reaches_are_chosen_by_what_they_bring(spec: dict[str, Any], tmp_path: Path) -> None:
    model, given = convolutions("bias", size=3, pad=1), samples(tmp_path, 6, 2, 6, 6)
    alone, plan = made(model, tmp_path, spec, given)
    asked, _ = made(model, tmp_path, {**spec, "keep": "wanda"}, given)
    assert plan.align == "select" and same(alone, asked)
    by_weights, _ = made(model, tmp_path, {"width": 0.5, "keep": "magnitude", "refit": "readers"}, given)
    assert not same(alone, by_weights)
    assert any("chosen by wanda" in note for note in plan.notes)
    assert any("and the samples" in one for one in plan.computed)


def test_beside_a_turn_heads_and_neurons_are_chosen_by_what_they_bring(tmp_path: Path) -> None:
    model, given = encoder(), samples(tmp_path, 6, 5, 4)
    spec = {"hidden": 8, "heads": 2, "intermediate": 6}
    alone, plan = made(model, tmp_path, spec, given)
    asked, _ = made(model, tmp_path, {**spec, "keep": "wanda"}, given)
    assert plan.align == "rotate" and same(alone, asked)
    by_norms, _ = made(model, tmp_path, {**spec, "keep": "energy"}, given)
    assert not same(alone, by_norms)


def in_branches() -> onnx.ModelProto:
    """Layers in the branches of an If, where no sample shows what they make."""
    b = GraphBuilder(2)
    x, shared = linear(b, "x", 4, 8), weights(b, 2, 8, 16)
    bodies = []
    for activation in ("Relu", "Tanh"):
        body = Body(b)
        bodies.append(body.graph([(through(body, x, shared, activation), FLOAT)]))
    positive = b.op("Greater", b.op("ReduceSum", "x", keepdims=0), b.constant(np.float32(0)))
    chosen = b.op("If", positive, then_branch=bodies[0], else_branch=bodies[1])
    return b.model([("x", ["batch", 4])], [linear(b, chosen, 8, 3)])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"intermediate": 8}, "not chosen by activations: .*lies in a branch"),
        ({"layers": 1}, "layers are not chosen by influence: the stream of chain .* cannot be looked at"),
    ],
)
def test_samples_that_show_nothing_of_what_shrinks_are_refused(spec: dict[str, int], why: str, tmp_path: Path) -> None:
    source, given = save(in_branches(), tmp_path), samples(tmp_path, 6, 4)
    with pytest.raises(ResampleError, match=f"here they would say nothing: {why}"):
        bot_onnx.plan(source, {"intermediate": 16, "layers": 2, **spec}, calibration=given)


def test_layers_stay_by_their_influence(tmp_path: Path) -> None:
    model, given = residual_mlp_model(layers=6), tmp_path / "given.npz"
    np.savez(given, x=np.random.default_rng(2).standard_normal((9, 4)).astype(np.float32))
    source = save(model, tmp_path)
    for target in (1, 3, 5):
        asked = bot_onnx.plan(source, {"layers": target, "layers_by": "influence"}, calibration=given)
        alone = bot_onnx.plan(source, {"layers": target}, calibration=given)
        assert alone.layers[0].kept == asked.layers[0].kept
        assert any("most influence on 9 samples" in note for note in alone.notes)
    named = bot_onnx.plan(source, {"layers": {"keep": [1, 4]}, "intermediate": 4}, calibration=given)
    assert named.layers[0].kept == (1, 4)


@pytest.mark.parametrize("options", [{"layer_axis": "haar"}, {"layer_axis": "even"}, {"preset": "paper"}])
def test_a_method_that_says_how_layers_are_made_does_so(options: dict[str, Any], tmp_path: Path) -> None:
    given = tmp_path / "given.npz"
    np.savez(given, x=np.random.default_rng(2).standard_normal((9, 4)).astype(np.float32))
    source = save(residual_mlp_model(layers=6), tmp_path)
    with pytest.raises(ResampleError, match="here they would say nothing"):
        bot_onnx.plan(source, {"layers": 3}, options=options, calibration=given)
    with pytest.raises(ResampleError, match="here they would say nothing"):
        bot_onnx.plan(source, {"layers": 3}, method="front", calibration=given)


def test_sizes_that_stay_are_left_alone(tmp_path: Path) -> None:
    model, given = encoder(), samples(tmp_path, 6, 5, 4)
    with pytest.raises(ResampleError, match="here they would say nothing"):
        bot_onnx.plan(save(model, tmp_path), {"hidden": HIDDEN}, calibration=given)


def test_samples_that_do_not_suit_are_no_reason_to_do_without(tmp_path: Path) -> None:
    """Layers that go are not quietly left to the method because an array has another name."""
    source, given = save(residual_mlp_model(layers=6), tmp_path), tmp_path / "given.npz"
    np.savez(given, y=np.ones((9, 4), np.float32))
    with pytest.raises(DataError, match="has no array 'x'"):
        bot_onnx.plan(source, {"layers": 3}, calibration=given)

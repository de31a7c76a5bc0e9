"""Batch norms that an exporter folded into convolutions: said, and sent home as a convolution and an identity norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx.errors import CheckpointError
from tests.graphs import GraphBuilder

Array = np.ndarray[Any, Any]
EPSILON = 1e-3
WIDTH = 8


def network(bias: bool = False, layers: int = 3, seed: int = 0) -> dict[str, Array]:
    """A checkpoint: convolutions of 1 x 1, each with a batch norm, and a head without one."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    state: dict[str, Array] = {}
    for layer in range(layers):
        state[f"{layer}.conv.weight"] = draw(WIDTH, WIDTH if layer else 3, 1, 1)
        if bias:
            state[f"{layer}.conv.bias"] = draw(WIDTH)
        state |= {f"{layer}.bn.{leaf}": draw(WIDTH) for leaf in ("weight", "bias", "running_mean")}
        state[f"{layer}.bn.running_var"] = rng.uniform(0.5, 2, WIDTH).astype(np.float32)
        state[f"{layer}.bn.num_batches_tracked"] = np.array(7)
    return state | {"head.weight": draw(5, WIDTH, 1, 1), "head.bias": draw(5)}


def computed(state: dict[str, Array], x: Array, layers: int = 3) -> Array:
    """What the framework's modules compute in eval mode."""
    for layer in range(layers):
        x = np.einsum("oi,nihw->nohw", state[f"{layer}.conv.weight"][..., 0, 0], x)
        mean, variance, gain, shift = (
            state[f"{layer}.bn.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        x = x + state.get(f"{layer}.conv.bias", np.zeros(len(mean), np.float32))[:, None, None]
        x = (x - mean[:, None, None]) / np.sqrt(variance + EPSILON)[:, None, None]
        x = np.maximum(gain[:, None, None] * x + shift[:, None, None], 0)
    return np.einsum("oi,nihw->nohw", state["head.weight"][..., 0, 0], x) + state["head.bias"][:, None, None]


def folded(state: dict[str, Array], folder: Path, layers: int = 3) -> Path:
    """The same as an exporter writes it."""
    b, x = GraphBuilder(), "x"
    for layer in range(layers):
        scale = state[f"{layer}.bn.weight"] / np.sqrt(state[f"{layer}.bn.running_var"] + EPSILON)
        bias = state.get(f"{layer}.conv.bias", 0) - state[f"{layer}.bn.running_mean"]
        weight = (state[f"{layer}.conv.weight"] * scale[:, None, None, None]).astype(np.float32)
        shift = (state[f"{layer}.bn.bias"] + scale * bias).astype(np.float32)
        names = [f"onnx::Conv_{2 * layer + place}" for place in (0, 1)]
        x = b.op("Conv", x, b.constant(weight, names[0]), b.constant(shift, names[1]))
        x = b.op("Relu", x)
    x = b.op("Conv", x, b.constant(state["head.weight"], "head.weight"), b.constant(state["head.bias"], "head.bias"))
    path = folder / "folded.onnx"
    onnx.save(b.model([("x", ["n", 3, 8, 8])], [x], rank=4), path)
    return path


def run(path: Path, x: Array) -> Array:
    (found,) = session(str(path)).run(None, {"x": x})
    return np.asarray(found)


def image() -> Array:
    return np.random.default_rng(5).standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_norm_goes_home_as_a_convolution_and_an_identity(tmp_path: Path, bias: bool) -> None:
    own = network(bias)
    path = folded(own, tmp_path)
    with pytest.raises(CheckpointError, match=r"onnx::Conv_0"):
        bot_onnx.state_dict(path)
    state = bot_onnx.state_dict(path, like=own)
    assert {key: array.shape for key, array in state.items()} == {key: array.shape for key, array in own.items()}
    assert np.array_equal(state["1.bn.weight"], np.ones(WIDTH)) and state["1.bn.num_batches_tracked"] == 7
    wanted = run(path, image())
    assert np.abs(computed(state, image()) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_trained_norms_are_folded_in_again(tmp_path: Path) -> None:
    own, trained = network(), network(seed=1)
    path, out = folded(own, tmp_path), tmp_path / "trained.onnx"
    bot_onnx.import_weights(path, trained, out, like=own)
    wanted = computed(trained, image())
    assert np.abs(run(out, image()) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_resized_file_goes_home_by_its_source(tmp_path: Path) -> None:
    own = network()
    path, small = folded(own, tmp_path), tmp_path / "small.onnx"
    bot_onnx.resize(path, {"width": 0.5}, small, against=False)
    state = bot_onnx.state_dict(small, like=own, source=path)
    assert state.keys() == own.keys() and state["1.conv.weight"].shape == (4, 4, 1, 1)
    wanted = run(small, image())
    assert np.abs(computed(state, image()) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_values_of_another_network_prove_nothing(tmp_path: Path) -> None:
    path = folded(network(), tmp_path)
    with pytest.raises(CheckpointError, match=r"onnx::Conv_0"):
        bot_onnx.state_dict(path, like={**network(seed=1), **{k: v for k, v in network().items() if k[:4] == "head"}})


def test_a_folded_norm_is_said(tmp_path: Path) -> None:
    path = folded(network(), tmp_path)
    assert any("3 batch norms" in note for note in bot_onnx.inspect(path).structure.notes)
    plan = bot_onnx.resize(path, {"width": 0.5}, tmp_path / "small.onnx", against=False).plan
    assert any("3 batch norms" in note for note in plan.notes)
    assert any("3 batch norms" in note for note in bot_onnx.inspect(tmp_path / "small.onnx").structure.notes)
    plain = onnx.load(path)
    names = ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "c.bias")
    for tensor, name in zip(plain.graph.initializer, names, strict=False):
        for node in plain.graph.node:
            node.input[:] = [name if entry == tensor.name else entry for entry in node.input]
        tensor.name = name
    onnx.save(plain, path)
    assert not any("batch norm" in note for note in bot_onnx.inspect(path).structure.notes)


def test_a_weight_norm_goes_home_as_magnitude_and_direction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((6, 3, 5)).astype(np.float32)
    magnitude = rng.uniform(0.5, 2, (1, 1, 5)).astype(np.float32)
    length = np.sqrt((direction**2).sum((0, 1), keepdims=True))
    b = GraphBuilder()
    weight = b.constant((magnitude * direction / length).astype(np.float32), "onnx::Conv_7")
    x = b.op("Conv", "x", weight, b.weight(6, name="conv.bias"))
    path, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(b.model([("x", ["n", 3, 16])], [x], rank=3), path)
    bias = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[1])
    like = {"conv.bias": bias, "conv.weight_g": magnitude, "conv.weight_v": direction}
    state = bot_onnx.state_dict(path, like=like)
    assert {key: array.shape for key, array in state.items()} == {key: array.shape for key, array in like.items()}
    made = state["conv.weight_v"] / np.sqrt((state["conv.weight_v"] ** 2).sum((0, 1), keepdims=True))
    held = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert np.allclose(made * state["conv.weight_g"], held, atol=1e-6)
    bot_onnx.import_weights(path, {**like, "conv.weight_g": 2 * magnitude}, out, like=like)
    assert np.allclose(onnx.numpy_helper.to_array(onnx.load(out).graph.initializer[0]), 2 * held, atol=1e-6)

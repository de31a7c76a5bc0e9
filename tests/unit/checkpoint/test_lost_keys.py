"""Parameters whose names an exporter lost: found by their place, or refused."""

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


def named(b: GraphBuilder, scope: str) -> None:
    """Give the last node a name in a scope, as the older exporter does."""
    node = b.nodes[-1]
    node.name = f"/{scope}/{node.op_type}"


def saved(folder: Path, b: GraphBuilder, inputs: list[tuple[str, list[Any]]], output: str, **more: Any) -> Path:
    path = folder / "model.onnx"
    onnx.save(b.model(inputs, [output], **more), path)
    return path


def values(path: Path, name: str) -> Array:
    graph = onnx.load(path).graph
    return next(onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)


def roundtrip(path: Path, folder: Path, **hints: Any) -> dict[str, Array]:
    """What a file exports; moved numbers go in and come out again, and the first ones compute what the file did."""
    state = bot_onnx.state_dict(path, **hints)
    out = folder / "trained.onnx"
    moved = {key: array + np.float32(0.5) for key, array in state.items()}
    bot_onnx.import_weights(path, moved, out, force=True)
    again = bot_onnx.state_dict(out)
    assert again.keys() == state.keys()
    assert all(np.allclose(again[key], moved[key], rtol=0, atol=1e-6) for key in moved)
    return state


def skipping(b: GraphBuilder) -> str:
    """A layer that a network reaches into without calling the module around it, and a head outside."""
    x = b.op("MatMul", "x", b.weight(6, 6, name="onnx::MatMul_1"))
    named(b, "decoder/layers.0/q")
    x = b.op("LayerNormalization", x, b.weight(6, name="model.decoder.layers.0.norm.weight"),
             b.weight(6, name="model.decoder.layers.0.norm.bias"))  # fmt: skip
    named(b, "decoder/layers.0/norm")
    x = b.op("MatMul", x, b.weight(6, 3, name="onnx::MatMul_2"))
    named(b, "head")
    return x


def test_a_module_that_scopes_skip_is_learned_from_names_that_survived(tmp_path: Path) -> None:
    b = GraphBuilder()
    path = saved(tmp_path, b, [("x", ["n", 6])], skipping(b), opset=17)
    state = roundtrip(path, tmp_path)
    norm = "model.decoder.layers.0.norm"
    assert set(state) == {"model.decoder.layers.0.q.weight", "head.weight", f"{norm}.weight", f"{norm}.bias"}
    assert np.array_equal(state["model.decoder.layers.0.q.weight"], values(path, "onnx::MatMul_1").T)


def rms_norm(b: GraphBuilder, x: str, scope: str, scale: str) -> str:
    square = b.op("Mul", x, x)
    named(b, scope)
    mean = b.op("ReduceMean", square, axes=[-1], keepdims=1)
    named(b, scope)
    root = b.op("Sqrt", b.op("Add", mean, b.constant(np.float32(1e-6))))
    b.nodes[-2].name, b.nodes[-1].name = f"/{scope}/Add", f"/{scope}/Sqrt"
    x = b.op("Div", x, root)
    named(b, scope)
    x = b.op("Mul", x, scale)
    b.nodes[-1].name = f"/{scope}/Mul_1"
    return x


@pytest.mark.parametrize("half", [False, True])
def test_one_that_was_added_to_the_scale_of_a_norm_is_taken_off(tmp_path: Path, half: bool) -> None:
    b = GraphBuilder()
    x = rms_norm(b, "x", "norm", b.weight(6, name="onnx::Mul_9"))
    x = b.op("MatMul", x, b.weight(6, 6, name="proj.weight"))
    named(b, "proj")
    if half:  # a parameter in another type: the name may be lost because the scale was converted
        x = b.op("Cast", b.op("Add", b.op("Cast", x, to=10), b.constant(np.float16(range(1, 7)), "proj.bias")), to=1)
        b.nodes[-2].name = "/proj/Add"
    path = saved(tmp_path, b, [("x", ["n", 6])], x, opset=17)
    if half:
        with pytest.raises(CheckpointError, match=r"norm\.weight"):
            bot_onnx.state_dict(path)
        return
    state = roundtrip(path, tmp_path)
    assert np.allclose(state["norm.weight"], values(path, "onnx::Mul_9") - 1, rtol=0, atol=1e-7)


def test_a_norms_scale_and_bias_with_further_axes_are_vectors(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(4, 3, 1, name="conv.weight"))
    named(b, "conv")
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    x = b.op("Reshape", x, b.constant(np.array([0, 2, -1])))
    named(b, "norm")
    x = b.op("InstanceNormalization", x, b.constant(ones, "onnx::Inst_1"), b.constant(zeros, "onnx::Inst_2"))
    named(b, "norm")
    x = b.op("Reshape", x, b.constant(np.array([0, 4, -1])))
    b.nodes[-1].name = "/norm/Reshape_1"
    x = b.op("Mul", x, b.weight(4, 1, name="onnx::Mul_3"))
    named(b, "norm")
    x = b.op("Add", x, b.weight(4, 1, name="onnx::Add_4"))
    named(b, "norm")
    path = saved(tmp_path, b, [("x", ["n", 3, 8])], x, opset=17, rank=3)
    state = roundtrip(path, tmp_path)
    assert {key: array.shape for key, array in state.items()} == {
        "conv.weight": (4, 3, 1), "norm.weight": (4,), "norm.bias": (4,)
    }  # fmt: skip


def test_a_module_that_is_called_again_is_the_same_module(tmp_path: Path) -> None:
    b = GraphBuilder()
    weight, bias = b.weight(6, 6, name="onnx::MatMul_1"), b.weight(6, name="layer.q.bias")
    x = "x"
    for number in ("", "_1"):
        x = b.op("MatMul", x, weight)
        named(b, f"layer/q{number}")
        x = b.op("Tanh", b.op("Add", x, bias))
        b.nodes[-2].name = f"/layer/q{number}/Add"
    path = saved(tmp_path, b, [("x", ["n", 6])], x, opset=17)
    assert set(roundtrip(path, tmp_path)) == {"layer.q.weight", "layer.q.bias"}


def test_a_weight_that_is_used_from_outside_its_module_is_not_its_users(tmp_path: Path) -> None:
    def attention(bias: str) -> Path:
        b = GraphBuilder()
        x = b.op("MatMul", "x", b.weight(6, 6, name="onnx::MatMul_1"))
        named(b, "attn")
        x = b.op("Add", x, b.weight(6, name=bias))
        named(b, "attn")
        x = b.op("LayerNormalization", x, b.weight(6, name="attn.norm.weight"), b.weight(6, name="attn.norm.bias"))
        named(b, "attn/norm")
        return saved(tmp_path, b, [("x", ["n", 6])], x, opset=17)

    assert "attn.qkv.weight" in bot_onnx.state_dict(attention("attn.qkv.bias"))
    assert "attn.in_proj_weight" in bot_onnx.state_dict(attention("attn.in_proj_bias"))
    with pytest.raises(CheckpointError, match=r"'attn' uses, but which module's"):
        bot_onnx.state_dict(attention("onnx::Add_2"))


def test_a_joined_bias_with_zeros_between_comes_apart_and_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    q, v = (rng.standard_normal(4).astype(np.float32) for _ in range(2))
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, 12, name="qkv.weight"))
    x = b.op("Add", x, b.constant(np.concatenate([q, np.zeros(4, np.float32), v]), "onnx::Add_2"))
    parts = b.op("Split", x, outputs=3, axis=1, num_outputs=3)
    total = b.op("Add", b.op("Mul", parts, f"{parts}.1"), f"{parts}.2")
    path = saved(tmp_path, b, [("x", ["n", 6])], total, opset=18)
    like = {"qkv.weight": values(path, "qkv.weight"), "q_bias": q, "v_bias": v}
    with pytest.raises(CheckpointError, match="--like"):
        bot_onnx.state_dict(path)
    state = bot_onnx.state_dict(path, like=like)
    assert state.keys() == like.keys() and all(np.array_equal(state[key], like[key]) for key in like)
    out = tmp_path / "out.onnx"
    bot_onnx.import_weights(path, {**like, "q_bias": q + 1, "v_bias": v + 2}, out, like=like)
    assert np.array_equal(values(out, "onnx::Add_2"), np.concatenate([q + 1, np.zeros(4, np.float32), v + 2]))


@pytest.mark.parametrize("name", ["scale.gamma", "onnx::Mul_5"])
def test_a_parameter_that_is_stored_as_a_view_goes_home_in_the_checkpoints_shape(tmp_path: Path, name: str) -> None:
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(4, 3, 1, 1, name="conv.weight"))
    x = b.op("Mul", x, b.weight(1, 4, 1, 1, name=name))
    path = saved(tmp_path, b, [("x", ["n", 3, 8, 8])], x, rank=4)
    gamma = values(path, name).reshape(4)
    like = {"conv.weight": values(path, "conv.weight"), "scale.gamma": gamma}
    state = bot_onnx.state_dict(path, like=like)
    assert state["scale.gamma"].shape == (4,) and np.array_equal(state["scale.gamma"], gamma)
    out = tmp_path / "out.onnx"
    bot_onnx.import_weights(path, {**like, "scale.gamma": gamma + 1}, out, like=like)
    assert np.array_equal(values(out, name), (gamma + 1).reshape(1, 4, 1, 1))


def test_tables_that_no_training_made_are_left_out(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(4, 3, 1, 1, name="conv.weight"))
    x = b.op("Reshape", x, b.constant(np.array([0, 4, 64])))
    x = b.op("Mul", x, b.constant(np.repeat(np.float32([8, 16]), 32).reshape(1, 64), "onnx::Mul_1"))  # strides
    angles = np.outer(np.float32([0.3, 1.7, 0.9, 2.3]), np.arange(64, dtype=np.float32) + 0.7)
    turned = b.op("Mul", x, b.constant(np.cos(angles), "onnx::Mul_2"))
    x = b.op("Add", turned, b.op("Mul", b.op("Neg", x), b.constant(np.sin(angles), "onnx::Mul_3")))
    path = saved(tmp_path, b, [("x", ["n", 3, 8, 8])], x, rank=4)
    assert set(bot_onnx.state_dict(path)) == {"conv.weight"}
    transfer = bot_onnx.export_weights(path, tmp_path / "w.safetensors")
    assert {"onnx::Mul_1", "onnx::Mul_2", "onnx::Mul_3"} <= set(transfer.left_out)


def test_zeros_that_are_added_are_left_out_until_a_checkpoint_has_others(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, 5, name="head.weight"))
    x = b.op("Add", x, b.constant(np.zeros((1, 5), np.float32), "onnx::Add_1"))
    path = saved(tmp_path, b, [("x", ["n", 6])], x)
    assert set(bot_onnx.state_dict(path)) == {"head.weight"}
    trained = {"head.weight": values(path, "head.weight"), "logits_bias": np.arange(5, dtype=np.float32)[None]}
    out = tmp_path / "out.onnx"
    bot_onnx.import_weights(path, trained, out)
    x = np.ones((2, 6), np.float32)
    assert np.allclose(session(str(out)).run(None, {"x": x})[0], x @ trained["head.weight"] + np.arange(5), atol=1e-5)


def test_import_leaves_out_what_the_graph_has_no_place_for(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, 5, name="head.weight"))
    path = saved(tmp_path, b, [("x", ["n", 6])], x)
    trained = {"head.weight": values(path, "head.weight") + 1, "pooler.dense.weight": np.ones((7, 7), np.float32)}
    out = tmp_path / "out.onnx"
    transfer = bot_onnx.import_weights(path, trained, out)
    assert transfer.absent == ("pooler.dense.weight",)
    assert np.array_equal(values(out, "head.weight"), trained["head.weight"])
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        bot_onnx.import_weights(path, {"pooler.dense.weight": trained["pooler.dense.weight"]}, tmp_path / "no.onnx")
    assert not (tmp_path / "no.onnx").exists()

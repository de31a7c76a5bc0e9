"""Keys from the list of entries that the newer exporter leaves in a file, and from the calls that nodes come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import CheckpointError
from tests.graphs import GraphBuilder

Array = np.ndarray[Any, Any]
PREFIX = "pkg.torch.onnx."


def called(b: GraphBuilder, scope: str, function: str, arguments: str = "") -> None:
    """Say of the last node which module's call it comes from."""
    parts = scope.split(".")
    scopes = ["", *(".".join(parts[: end + 1]) for end in range(len(parts))), "call"]
    classes = ["Net", *("Module" for _ in parts), function]
    for key, text in (
        ("name_scopes", str(scopes)), ("class_hierarchy", str(classes)), ("fx_node", f"%c = call(args = ({arguments}))")
    ):  # fmt: skip
        b.nodes[-1].metadata_props.add(key=PREFIX + key, value=text)


def signed(b: GraphBuilder, folder: Path, output: str, entries: list[str], unsaved: tuple[str, ...] = ()) -> Path:
    model = b.model([("x", ["n", 6])], [output], opset=18)
    lines = [f"p_{key.replace('.', '_')}: PARAMETER target='{key}'" for key in entries]
    lines += [f"b_{key.replace('.', '_')}: BUFFER target='{key}' persistent=False" for key in unsaved]
    text = "\n# inputs\n" + "\n".join(lines)
    model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=text)
    path = folder / "signed.onnx"
    onnx.save(model, path)
    return path


def values(path: Path, name: str) -> Array:
    graph = onnx.load(path).graph
    return next(onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)


def attention(b: GraphBuilder, bias: str) -> str:
    """A projection whose weight and bias the network takes from a module that it does not call."""
    x = b.op("MatMul", "x", b.weight(6, 9, name="val_1"))
    called(b, "attn", "aten.linear.default", "%x, %p_attn_qkv_weight, %cat")
    x = b.op("Add", x, bias)
    called(b, "attn", "aten.linear.default", "%x, %p_attn_qkv_weight, %cat")
    x = b.op("Add", b.op("LayerNormalization", x, b.weight(9, name="attn.norm.weight")), b.weight(9, name="norm.bias"))
    for node, scope in ((b.nodes[-2], "attn.norm"), (b.nodes[-1], "norm")):
        node.metadata_props.add(key=f"{PREFIX}name_scopes", value=str(["", scope, "call"]))
    return x


def test_joined_biases_come_apart_in_the_modules_order_and_that_is_said(tmp_path: Path) -> None:
    q, v = np.float32([1.5, 2.25, 3.1]), np.float32([4.2, 5.3, 6.4])
    b = GraphBuilder()
    x = attention(b, b.constant(np.concatenate([q, np.zeros(3, np.float32), v]), "cat"))
    entries = ["attn.q_bias", "attn.v_bias", "attn.qkv.weight", "attn.norm.weight", "norm.bias"]
    path = signed(b, tmp_path, x, entries, ("attn.k_bias",))
    state = bot_onnx.state_dict(path)
    assert set(state) == set(entries)
    assert np.array_equal(state["attn.q_bias"], q) and np.array_equal(state["attn.v_bias"], v)
    assert np.array_equal(state["attn.qkv.weight"], values(path, "val_1").T)
    transfer = bot_onnx.export_weights(path, tmp_path / "w.safetensors")
    assert any("'attn.q_bias' and 'attn.v_bias'" in note for note in transfer.notes)
    out = tmp_path / "out.onnx"
    bot_onnx.import_weights(path, {**state, "attn.v_bias": v + 1}, out)
    assert np.array_equal(values(out, "cat"), np.concatenate([q, np.zeros(3, np.float32), v + 1]))


def test_where_more_was_joined_than_is_left_the_entries_are_named(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = attention(b, b.weight(9, name="cat"))  # nowhere zeros, though a buffer of the module is not saved
    entries = ["attn.q_bias", "attn.v_bias", "attn.qkv.weight", "attn.norm.weight", "norm.bias"]
    with pytest.raises(CheckpointError, match=r"'cat'.*'attn\.q_bias', 'attn\.v_bias'.*--like"):
        bot_onnx.state_dict(signed(b, tmp_path, x, entries, ("attn.k_bias",)))


def test_what_one_entry_was_computed_into_is_that_entry(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, 4, name="permute"))  # a linear module of the framework's own making
    called(b, "proj", "aten.matmul.default", "%x, %permute")
    x = b.op("Add", x, b.weight(1, 4, name="embedding"))
    called(b, "tokens", "aten.add.Tensor", "%x, %embedding")
    x = b.op("Mul", x, b.constant(np.float32(2.5), "exp"))
    called(b, "head", "aten.mul.Tensor", "%x, %exp")
    x = b.op("Mul", x, b.weight(4, name="head.gain"))
    called(b, "head", "aten.mul.Tensor", "%x, %p_head_gain")
    entries = ["proj.weight", "tokens.table.weight", "head.temperature", "head.gain"]
    path, out = signed(b, tmp_path, x, entries), tmp_path / "out.onnx"
    state = bot_onnx.state_dict(path)
    assert {key: array.shape for key, array in state.items()} == {
        "proj.weight": (4, 6), "tokens.table.weight": (1, 4), "head.temperature": (), "head.gain": (4,)
    }  # fmt: skip
    assert np.isclose(state["head.temperature"], np.log(2.5))
    bot_onnx.import_weights(path, {**state, "head.temperature": np.asarray(np.log(np.float32(3)))}, out)
    assert np.isclose(values(out, "exp"), 3)


def test_a_zero_bias_of_a_convolution_is_a_parameter_again(tmp_path: Path) -> None:
    b = GraphBuilder()
    image = b.op("Reshape", "x", b.ints(-1, 6, 1, 1))
    x = b.op("Conv", image, b.weight(4, 6, 1, 1, name="conv.weight"))
    called(b, "conv", "aten.conv2d.default", "%image, %p_conv_weight, %p_conv_bias, [1, 1]")
    x = b.op("Reshape", x, b.ints(-1, 4))
    state = bot_onnx.state_dict(signed(b, tmp_path, x, ["conv.weight", "conv.bias"]))
    assert np.array_equal(state["conv.bias"], np.zeros(4))


def test_buffers_that_are_not_saved_are_left_out(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, 4, name="proj.weight"))
    called(b, "proj", "aten.matmul.default", "%x, %p_proj_weight")
    x = b.op("Add", x, b.weight(1, 4, name="proj.mask"))
    called(b, "proj", "aten.add.Tensor", "%x, %b_proj_mask")
    assert set(bot_onnx.state_dict(signed(b, tmp_path, x, ["proj.weight"], ("proj.mask",)))) == {"proj.weight"}

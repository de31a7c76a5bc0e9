"""How weights are matched: scopes, layer numbers, prefixes, joined and split tensors, sizes in a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from safetensors.numpy import load_file

import bot_onnx
from bot_onnx._checkpoint.config import resized_config
from bot_onnx._checkpoint.files import SafetensorsFile, save
from bot_onnx._checkpoint.layers import continued_key
from bot_onnx._checkpoint.patterns import Prefix, find_prefix
from bot_onnx._checkpoint.sites import module_path
from bot_onnx._checkpoint.types import Assignment, Candidate
from bot_onnx._runs.runtime import session
from bot_onnx.errors import CheckpointError, SpecError

from tests.graphs import GraphBuilder, residual_mlp_model, save as save_model  # isort: skip


def node(name: str = "", **metadata: str) -> ir.Node:
    made = ir.node("Relu", [ir.Value(name="x")], name=name)
    made.metadata_props.update({f"pkg.torch.onnx.{key}": text for key, text in metadata.items()})
    return made


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (node("/encoder/layer.0/attention/self/query/MatMul"), "encoder.layer.0.attention.self.query"),
        (node("/blocks/blocks.0/attn/qkv/MatMul"), "blocks.0.attn.qkv"),
        (node("/features/features.1/features.1.0/Conv"), "features.1.0"),
        (node("/model/model/embed/Gather"), "model.model.embed"),
        (node("/Add"), ""),
        (node("node_linear_3", name_scopes="['', 'model', 'model.head', 'linear_3']"), "model.head"),
        (node("node_add", name_scopes="['', 'add']"), ""),
        (node("node_add", name_scopes="not a list"), None),
        (node("MatMul_12"), None),
    ],
)
def test_scopes_say_the_module(made: ir.Node, path: str | None) -> None:
    assert module_path(made) == path


@pytest.mark.parametrize(
    ("known", "index", "key"),
    [
        ({0: "h.0.ln.weight", 1: "h.1.ln.weight"}, 5, "h.5.ln.weight"),
        ({0: "h.3.ln_1.weight", 2: "h.5.ln_1.weight"}, 3, "h.6.ln_1.weight"),
        ({0: "h.0.ln.weight", 1: "h.2.ln.weight"}, 2, None),
        ({0: "h.0.ln.weight", 1: "g.1.ln.weight"}, 2, None),
        ({0: "h.0.a", 1: "h.1.a", 2: "h.3.a"}, 4, None),
        ({1: "h.1.ln_1.weight"}, 0, "h.0.ln_1.weight"),
        ({0: "h.0.layer.1.weight"}, 1, None),
        ({2: "h.0.weight"}, 0, None),
    ],
)
def test_layers_continue(known: dict[int, str], index: int, key: str | None) -> None:
    assert continued_key(known, index) == key


def test_prefixes_are_those_that_most_keys_agree_on() -> None:
    ours = ["model.bert.encoder.layer.0.q.weight", "model.bert.encoder.layer.1.q.weight", "model.bert.pooler.weight"]
    theirs = ["bert.encoder.layer.0.q.weight", "bert.pooler.weight", "cls.weight"]
    assert find_prefix(ours, theirs) == Prefix("model.", "")
    assert find_prefix(theirs, ours) == Prefix("", "model.")
    assert find_prefix(["a.weight"], ["b.bias"]) == Prefix()
    assert find_prefix(ours, ours) == Prefix()


def joined_model(folder: Path) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    """Three projections in one matrix, and the weights that a framework would hold apart."""
    b = GraphBuilder()
    wide = b.op("Split", b.op("MatMul", "x", b.weight(8, 12, name="onnx::MatMul_1")), outputs=3, axis=1, num_outputs=3)
    total = b.op("Add", b.op("Mul", wide, f"{wide}.1"), f"{wide}.2")
    b.op("MatMul", total, b.weight(4, 5, name="onnx::MatMul_2"))
    model = b.model([("x", ["batch", 8])], [b.nodes[-1].output[0]], opset=18)
    whole, last = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    parts = {
        f"{name}.weight": np.ascontiguousarray(whole[:, i : i + 4].T) for i, name in ((0, "q"), (4, "k"), (8, "v"))
    }
    return save_model(model, folder), {**parts, "out.weight": np.ascontiguousarray(last.T)}


def test_joined_tensors_are_taken_apart_and_put_together_again(tmp_path: Path) -> None:
    path, weights = joined_model(tmp_path)
    with pytest.raises(CheckpointError, match="MatMul_1"):
        bot_onnx.state_dict(path)
    state = bot_onnx.state_dict(path, like=weights)
    assert state.keys() == weights.keys()
    assert all(np.array_equal(state[key], weights[key]) for key in weights)
    names = {
        "onnx::MatMul_1": {"joined": ["q.weight", "k.weight", "v.weight"], "axis": 0},
        "onnx::MatMul_2": "out.weight",
    }
    given = bot_onnx.state_dict(path, names=names)
    assert all(np.array_equal(given[key], weights[key]) for key in weights)
    trained = {key: values + 1 for key, values in weights.items()}
    out = tmp_path / "trained.onnx"
    bot_onnx.import_weights(path, trained, out, names=names)
    again = bot_onnx.state_dict(out, names=names)
    assert all(np.array_equal(again[key], trained[key]) for key in weights)
    without = {key: values for key, values in trained.items() if key != "k.weight"}
    with pytest.raises(CheckpointError):
        bot_onnx.import_weights(path, without, tmp_path / "none.onnx", names=names)


def test_split_tensors_are_put_together_and_taken_apart_again(tmp_path: Path) -> None:
    b = GraphBuilder()
    parts = [b.op("MatMul", "x", b.weight(8, 4, name=f"part{number}")) for number in range(3)]
    b.op("MatMul", b.op("Add", b.op("Mul", parts[0], parts[1]), parts[2]), b.weight(4, 5, name="last.weight"))
    model = b.model([("x", ["batch", 8])], [b.nodes[-1].output[0]])
    path = save_model(model, tmp_path)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    whole = np.concatenate([arrays[f"part{number}"] for number in range(3)], axis=1)
    weights = {"c_attn.weight": whole, "last.weight": arrays["last.weight"]}  # axes as in the graph, like GPT-2's
    state = bot_onnx.state_dict(path, like=weights)
    assert all(np.array_equal(state[key], weights[key]) for key in weights) and len(state) == 2
    names = {f"part{n}": {"key": "c_attn.weight", "part": n, "axis": 1, "transpose": False} for n in range(3)}
    out = tmp_path / "trained.onnx"
    bot_onnx.import_weights(path, {key: values * 2 for key, values in weights.items()}, out, names=names)
    assert all(np.array_equal(bot_onnx.state_dict(out, names=names)[key], weights[key] * 2) for key in weights)


def test_a_weight_that_holds_a_folded_norm_has_no_key_though_it_has_a_name(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.op("Conv", "x", b.weight(4, 3, 1, 1, name="conv.weight"), b.weight(4, name="conv.bias"))
    model = b.model([("x", ["batch", 3, 8, 8])], [b.nodes[-1].output[0]], rank=4)

    def made_from(function: str) -> Path:
        node = model.graph.node[0]
        del node.metadata_props[:]
        scope = "bn" if "norm" in function else "conv"
        for key, texts in (("name_scopes", ["", scope, "f"]), ("class_hierarchy", ["Net", "Module", function])):
            node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=str(texts))
        return save_model(model, tmp_path)

    assert set(bot_onnx.state_dict(made_from("aten.conv2d.default"))) == {"conv.weight", "conv.bias"}
    with pytest.raises(CheckpointError, match=r"conv\.weight.*batch norm"):
        bot_onnx.state_dict(made_from("aten._native_batch_norm_legit_no_training.default"))


def test_a_zero_bias_that_the_exporter_left_out_is_a_parameter_again(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.op("Gemm", "x", b.weight(5, 4, name="head.Dense.weight"), transB=1)
    model = b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])
    plain = bot_onnx.state_dict(save_model(model, tmp_path))
    assert set(plain) == {"head.Dense.weight"}  # nothing says that there was a bias
    line = "%linear = call_function[target=aten.linear](args = (%x, %p_head_dense_weight, %p_head_dense_bias))"
    for key, text in (
        ("name_scopes", "['', 'head', 'head.Dense', 'linear']"),
        ("class_hierarchy", "['Net', 'Head', 'torch.nn.modules.linear.Linear', 'aten.linear.default']"),
        ("fx_node", line),
    ):
        model.graph.node[0].metadata_props.add(key=f"pkg.torch.onnx.{key}", value=text)
    path, out = save_model(model, tmp_path), tmp_path / "trained.onnx"
    state = bot_onnx.state_dict(path)
    assert np.array_equal(state["head.Dense.bias"], np.zeros(5, np.float32))
    trained = {key: values + np.float32(0.5) for key, values in state.items()}
    bot_onnx.import_weights(path, trained, out)
    x = np.ones((2, 4), np.float32)
    wanted = x @ trained["head.Dense.weight"].T + 0.5
    assert np.allclose(session(str(out)).run(None, {"x": x})[0], wanted, atol=1e-6)


def test_tied_keys_share_a_tensor_and_must_agree(tmp_path: Path) -> None:
    path = save_model(residual_mlp_model(), tmp_path)
    plain = bot_onnx.state_dict(path)
    weights = {**plain, "copy": plain["w0"]}
    assert np.array_equal(bot_onnx.state_dict(path, like=weights)["copy"], plain["w0"])
    names = {"w0": ["w0", "other"]}
    assert np.array_equal(bot_onnx.state_dict(path, names=names)["other"], plain["w0"])
    apart = {**plain, "other": plain["w0"] + 1}
    with pytest.raises(CheckpointError, match=r"'w0' and 'other'"):
        bot_onnx.import_weights(path, apart, tmp_path / "none.onnx", names=names)


def test_files_hold_what_was_put_in(tmp_path: Path) -> None:
    half = ir.DataType.BFLOAT16.numpy()
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # a view that is not contiguous
        "b": np.arange(3).astype(half),
        "c": np.float16([1, 2]),
        "count": np.array(7),
    }
    path = tmp_path / "x.safetensors"
    save(path, arrays, force=False)
    opened = SafetensorsFile(path)
    assert opened.shapes == {key: values.shape for key, values in arrays.items()}
    assert opened.buffers == {"count"}
    assert all(np.array_equal(opened.read(key), values) for key, values in arrays.items())
    assert opened.read("b").dtype == half
    assert np.array_equal(load_file(path)["a"], arrays["a"])
    for content, message in ((b"{}", "no safetensors file"), (b"", "no safetensors file")):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            SafetensorsFile(tmp_path / "bad.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "x.safetensors"}}')
    assert SafetensorsFile(tmp_path).shapes.keys() == arrays.keys()
    index.write_text('{"weight_map": {"a": "../x.safetensors"}}')
    with pytest.raises(CheckpointError, match="beside it"):
        SafetensorsFile(tmp_path)


def test_a_config_that_cannot_say_the_sizes_is_refused(tmp_path: Path) -> None:
    path = save_model(residual_mlp_model(layers=3, hidden=8, inner=16), tmp_path)
    structure = bot_onnx.inspect(path).structure
    chained = next(stack for stack in structure.stacks if stack.chain is not None)
    candidates = {f"layer.{i}.w": (Candidate(f"layer.{i}.w", name, "given"),) for i, name in enumerate(chained.tensors)}
    assignment = Assignment(candidates, {})
    config = {
        "model_type": "mlp",
        "hidden_size": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 6,
        "_name_or_path": "x",
    }
    made = resized_config(config, structure, assignment, "config.json")
    assert made == {"model_type": "mlp", "hidden_size": 8, "num_hidden_layers": 3, "intermediate_size": 16}
    fixed = {"model_type": "gpt2", "n_embd": 4, "n_layer": 2}  # whose intermediate is four times hidden
    with pytest.raises(SpecError, match="intermediate 16"):
        resized_config(fixed, structure, assignment, "config.json")
    assert resized_config({**fixed, "n_inner": None}, structure, assignment, "config.json")["n_inner"] == 16
    with pytest.raises(SpecError, match="heads"):
        resized_config({**config, "num_attention_heads": 2}, structure, assignment, "config.json")

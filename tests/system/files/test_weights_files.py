"""Checkpoints on disk: what ``export`` writes loads in the framework, what is not certain is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

import bot_onnx
from bot_onnx._cli.app import cli
from bot_onnx._runs.runtime import session
from bot_onnx.errors import CheckpointError, OutputError
from tests.forms import eager_bert, optimised_by_tool
from tests.system.files.test_weights_roundtrip import TOLERANCE, difference, framework, resized
from tests.system.invariance.test_invariance import disguise
from tests.system.oracle.compare import distance, run_at_two_sizes
from tests.zoo.architectures import TARGETS, base_size
from tests.zoo.export import cached_export, quiet

pytestmark = pytest.mark.exporter


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with config and weights of the networks that the zoo's exports come from, as the framework saves them."""
    folders = {}
    for arch in ("bert", "deit", "llama"):
        folders[arch] = tmp_path_factory.mktemp(arch)
        with quiet():
            framework(arch, base_size(arch), seed=0)[1].save_pretrained(folders[arch])
    return folders


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("arch", "exporter"), [("bert", "torchscript17"), ("llama", "dynamo18")])
def test_from_pretrained_loads_the_folder(arch: str, exporter: str, saved: dict[str, Path], tmp_path: Path) -> None:
    import transformers

    size = TARGETS["half"](base_size(arch))
    file = resized(arch, exporter, size, tmp_path)
    folder = tmp_path / "home"
    folder.mkdir()
    source = saved[arch]
    out = folder / "model.safetensors"
    shown = run("export", file, "--to", "safetensors", "-o", out, "--like", source, "--hf", source, "--json")
    assert shown.exit_code == 0, shown.output
    report = json.loads(shown.stdout)
    assert {entry["key"] for entry in report["entries"]} == set(load_file(out))
    assert all(how in ("name", "scope", "layer", "twin") for entry in report["entries"] for how in entry["how"])
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (size.hidden, size.layers)
    assert config.get("num_key_value_heads", size.kv_heads) == size.kv_heads  # one, for llama
    with quiet():
        kind = getattr(transformers, config["architectures"][0])
        model, loading = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    built, _ = framework(arch, size)
    built.module.model = model.eval()
    assert difference(file, built) <= TOLERANCE


def test_names_that_the_framework_changes_when_it_saves_are_found_by_value(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    size, source = TARGETS["double"](base_size("deit")), cached_export("deit", base_size("deit"), "dynamo18")
    file = resized("deit", "dynamo18", size, tmp_path)
    with pytest.raises(CheckpointError, match="--source"):
        bot_onnx.state_dict(file, like=saved["deit"])
    state = bot_onnx.state_dict(file, like=saved["deit"], source=source)
    kept = set(load_file(saved["deit"] / "model.safetensors"))
    assert kept < set(state)
    further = {key.replace("layer.5.", "layer.3.").replace("layer.4.", "layer.3.") for key in set(state) - kept}
    assert further and further < kept
    runtime = bot_onnx.state_dict(file, strip="model.")
    key = "deit.encoder.layer.5.attention.attention.query.weight"
    assert np.array_equal(state[key], runtime["deit.layers.5.attention.q_proj.weight"])


def test_a_graph_without_names_is_matched_by_value(saved: dict[str, Path], tmp_path: Path) -> None:
    anonymous, out = tmp_path / "anonymous.onnx", tmp_path / "small.onnx"
    onnx.save(disguise(onnx.load(cached_export("bert", base_size("bert"), "torchscript17")), seed=3), anonymous)
    with pytest.raises(CheckpointError, match="is no key"):
        bot_onnx.state_dict(anonymous, like={"other.weight": np.zeros((3, 3), np.float32)})
    state = bot_onnx.state_dict(anonymous, like=saved["bert"])
    expected = load_file(saved["bert"] / "model.safetensors")
    assert state.keys() == expected.keys()
    assert all(np.array_equal(values, expected[key]) for key, values in state.items())
    bot_onnx.resize(anonymous, {"layers": 2, "hidden": 32}, out, against=False)
    import torch

    size = TARGETS["half"](base_size("bert"))
    names = bot_onnx.state_dict(out, like=saved["bert"], source=anonymous)
    built, own = framework("bert", size)
    own.load_state_dict({key: torch.from_numpy(values) for key, values in names.items()}, strict=True)
    named = resized("bert", "torchscript17", size, tmp_path)
    assert difference(named, built) <= TOLERANCE


def edited(source: Path, out: Path, tensor: str, change: Any) -> Path:
    """A copy of a model with other values in one tensor."""
    model = onnx.load(source)
    proto = next(t for t in model.graph.initializer if t.name == tensor)
    proto.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(proto)), proto.name))
    onnx.save(model, out)
    return out


def lost_name(source: Path) -> str:
    return next(t.name for t in onnx.load(source).graph.initializer if t.name.startswith("onnx::MatMul"))


def test_a_tensor_that_was_computed_while_exporting_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    source = cached_export("bert", base_size("bert"), "torchscript17")
    name = lost_name(source)
    folded = edited(source, tmp_path / "folded.onnx", name, lambda values: values * np.float32(0.5))
    with pytest.raises(CheckpointError, match=name):
        bot_onnx.state_dict(folded, like=saved["bert"])


def test_the_checkpoint_of_another_network_is_refused(saved: dict[str, Path]) -> None:
    source = cached_export("bert", base_size("bert"), "torchscript17")
    with pytest.raises(CheckpointError):
        bot_onnx.state_dict(source, like=saved["llama"])
    weights = load_file(saved["bert"] / "model.safetensors")
    weights["extra.weight"] = np.ones((5, 7), np.float32)
    with pytest.raises(CheckpointError, match=r"extra\.weight.*--partial"):
        bot_onnx.state_dict(source, like=weights)
    assert "extra.weight" not in bot_onnx.state_dict(source, like=weights, partial=True)
    crooked = load_file(saved["bert"] / "model.safetensors")
    crooked["pooler.dense.weight"] = np.ones((64, 65), np.float32)
    with pytest.raises(CheckpointError, match=r"pooler\.dense\.weight"):
        bot_onnx.state_dict(source, like=crooked)


def test_keys_can_be_given(tmp_path: Path) -> None:
    source = cached_export("bert", base_size("bert"), "torchscript17")
    model = onnx.load(source)
    node = next(n for n in model.graph.node if n.name == "/model/encoder/layer.2/attention/self/key/MatMul")
    node.name = "somewhere"
    moved = tmp_path / "moved.onnx"
    onnx.save(model, moved)
    state = bot_onnx.state_dict(moved, strip="model.")  # its counterparts in other layers tell
    key = "encoder.layer.2.attention.self.key.weight"
    assert np.array_equal(state[key], bot_onnx.state_dict(source, strip="model.")[key])
    for each in model.graph.node:
        each.name = ""
    onnx.save(model, moved)
    refused = run("export", moved, "-o", tmp_path / "none.safetensors")
    assert refused.exit_code == 1
    assert "--like" in refused.output and "--names" in refused.output and not (tmp_path / "none.safetensors").exists()
    names: dict[str, Any] = {}
    for entry in bot_onnx.export_weights(source, tmp_path / "a.safetensors").entries:
        if "scope" in entry.how and ".layer.0." in entry.key:
            names[entry.tensors[0]] = entry.key
    names_file = tmp_path / "names.json"
    names_file.write_text(json.dumps(names))
    shown = run("export", moved, "-o", tmp_path / "b.safetensors", "--names", names_file, "--quiet")
    assert (shown.exit_code, shown.output) == (0, "")
    first, second = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert first.keys() == second.keys()
    assert all(np.array_equal(values, second[key]) for key, values in first.items())
    with pytest.raises(CheckpointError, match="no weight 'nosuch'"):
        bot_onnx.state_dict(moved, names={"nosuch": "a.weight"})


def test_outputs_are_not_replaced_and_sources_never(saved: dict[str, Path], tmp_path: Path) -> None:
    source = cached_export("bert", base_size("bert"), "torchscript17")
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        bot_onnx.export_weights(source, out)
    config = tmp_path / "config.json"
    config.write_bytes((saved["bert"] / "config.json").read_bytes())
    with pytest.raises(OutputError, match="never written to"):
        bot_onnx.export_weights(source, out, config=config, force=True)
    assert out.read_bytes() == b"mine"
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "config.json").write_text("mine")
    with pytest.raises(OutputError, match=r"config\.json exists already"):
        bot_onnx.export_weights(source, folder / "model.safetensors", config=config)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    bot_onnx.export_weights(source, folder / "model.safetensors", config=config, force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 4
    bot_onnx.export_weights(source, out, force=True)
    assert load_file(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "home", "model.safetensors"]
    with pytest.raises(OutputError, match="never written to"):
        bot_onnx.import_weights(source, out, out, force=True)


def test_import_refuses_what_does_not_fit(saved: dict[str, Path], tmp_path: Path) -> None:
    source, out = cached_export("bert", base_size("bert"), "torchscript17"), tmp_path / "out.onnx"
    weights = load_file(saved["bert"] / "model.safetensors")
    small = resized("bert", "torchscript17", TARGETS["half"](base_size("bert")), tmp_path)
    with pytest.raises(CheckpointError, match="other sizes"):
        bot_onnx.import_weights(small, weights, out)
    short = {key: values for key, values in weights.items() if key != "pooler.dense.weight"}
    with pytest.raises(CheckpointError, match=r"pooler\.dense\.weight"):
        bot_onnx.import_weights(source, short, out)
    wide = {key: values.astype(np.float64) for key, values in weights.items()}
    with pytest.raises(CheckpointError, match="--cast"):
        bot_onnx.import_weights(source, wide, out)
    assert not out.exists()
    bot_onnx.import_weights(source, wide, out, cast=True)
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-6


def test_the_command_puts_weights_back(saved: dict[str, Path], tmp_path: Path) -> None:
    source = cached_export("llama", base_size("llama"), "torchscript17")
    copy = edited(source, tmp_path / "model.onnx", "model.model.norm.weight", lambda values: values * np.float32(3))
    weights = load_file(saved["llama"] / "model.safetensors")  # without the tied head, as the framework saves it
    assert "lm_head.weight" not in weights
    trained = tmp_path / "trained.safetensors"
    save_file(weights, trained)
    shown = run("import", copy, "--from", trained)
    assert shown.exit_code == 0, shown.output
    assert "twin" in shown.output
    out = tmp_path / "model-trained.onnx"
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-6
    assert distance(run_at_two_sizes(copy), run_at_two_sizes(source)) > TOLERANCE


def test_a_fused_qkv_comes_apart_and_back(tmp_path: Path) -> None:
    size = base_size("bert")
    source, small, out = tmp_path / "fused.onnx", tmp_path / "small.onnx", tmp_path / "out.onnx"
    optimised_by_tool(eager_bert(size), source, "bert", size)
    names = {tensor.name for tensor in onnx.load(source).graph.initializer}
    assert "Attention_0_qkv_weight" in names
    weights = bot_onnx.state_dict(eager_bert(size), strip="model.")  # whose exporter kept the three apart
    with pytest.raises(CheckpointError, match="--like"):
        bot_onnx.state_dict(source)
    state = bot_onnx.state_dict(source, like=weights)
    assert state.keys() == weights.keys()
    assert all(np.array_equal(state[key], weights[key]) for key in weights)
    bot_onnx.resize(source, {"layers": 2, "hidden": 32, "heads": 2}, small, against=False)
    halved = bot_onnx.state_dict(small, like=weights, source=source)
    assert halved["encoder.layer.1.attention.self.key.weight"].shape == (32, 32)
    trained = {key: values + np.float32(0.01) for key, values in halved.items()}
    bot_onnx.import_weights(small, trained, out, like=weights, source=source)
    carried = bot_onnx.state_dict(out, like=weights, source=source)
    assert all(np.array_equal(carried[key], trained[key]) for key in trained)


def test_batch_norms_go_home_with_their_statistics(tmp_path: Path) -> None:
    import torch

    class Block(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn = torch.nn.BatchNorm2d(width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.relu(self.bn(self.conv(x)))

    def network(width: int, layers: int) -> Any:
        torch.manual_seed(width)
        blocks = [Block(width) for _ in range(layers)]
        made = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3), torch.nn.Sequential(*blocks), torch.nn.Conv2d(width, 5, 1)
        )
        for block in blocks:
            block.bn.running_mean.normal_()
            block.bn.running_var.uniform_(0.5, 2)
            block.bn.weight.data.normal_()
            block.bn.bias.data.normal_()
            block.bn.num_batches_tracked.fill_(7)
        return made.eval()

    original, wide = network(8, 3), network(16, 5)
    path, out = tmp_path / "net.onnx", tmp_path / "wide.onnx"
    with quiet():
        mode = torch.onnx.TrainingMode.PRESERVE  # leaves batch norms where they are
        example = (torch.randn(1, 3, 16, 16),)
        torch.onnx.export(
            original,
            example,
            str(path),
            dynamo=False,
            training=mode,
            dynamic_axes={"x": {0: "batch"}},
            input_names=["x"],
        )
    weights = {key: values.numpy() for key, values in original.state_dict().items()}
    with pytest.raises(CheckpointError, match="--partial"):
        bot_onnx.state_dict(path, like={**weights, "1.0.bn.extra": weights["1.0.bn.bias"] + 1})
    bot_onnx.resize(path, {"width": 2, "layers": 5}, out, against=False)
    state = bot_onnx.state_dict(out, like=weights)
    wide.load_state_dict({key: torch.from_numpy(values) for key, values in state.items()}, strict=True)
    assert state["1.2.bn.num_batches_tracked"] == 7
    bot_onnx.resize(path, {"layers": 2}, tmp_path / "short.onnx", against=False)
    short = bot_onnx.state_dict(tmp_path / "short.onnx", like=weights)
    assert short.keys() == {key for key in weights if not key.startswith("1.2.")}
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    (found,) = session(str(out)).run(None, {"x": x})
    with torch.no_grad():
        wanted = wide(torch.from_numpy(x)).numpy()
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()

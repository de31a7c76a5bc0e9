"""Folders in, folders out: the model, its configs at the new sizes, what goes along, and what does not."""

from __future__ import annotations

import json
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._folders import timm_config
from bot_onnx._folders.sizes import Sizes
from bot_onnx._installing import install
from bot_onnx.errors import GraphError, MissingRuntimeError, OutputError, SpecError, VerifyError
from tests import folders
from tests.folders import TOKENIZER
from tests.zoo.timm_import import import_timm

SMALL = {"layers": 2, "hidden": 12}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def told(folder: Path, place: str = "config.json") -> Any:
    return json.loads((folder / place).read_text())


def test_an_encoder(tmp_path: Path) -> None:
    source, out = folders.bert(tmp_path / "bert"), tmp_path / "made" / "here" / "small"
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    before = held(source)
    shown = run("resize", source, "--spec", tmp_path / "small.json", "-o", f"{out}/")
    assert shown.exit_code == 0, shown.stderr
    assert held(source) == before
    files = held(out)
    assert set(files) == {"model.onnx", "config.json", "README.md", "bot-onnx.json", *TOKENIZER}
    assert all(files[name] == before[name] for name in TOKENIZER)
    after = folders.BERT
    for old, new in [
        ('"hidden_size": 24', '"hidden_size": 12'), ('"intermediate_size": 48', '"intermediate_size": 24'),
        ('heads": 4', 'heads": 2'), ('layers": 3', 'layers": 2'),
    ]:  # fmt: skip
        after = after.replace(old, new)
    assert files["config.json"] == after.encode()
    assert bot_onnx.verify(out, spec=out / "config.json").passed
    note = "Not copied, for it holds weights of the old sizes: model.safetensors, pytorch_model.bin."
    assert f"Note: {note}" in shown.stderr and note not in shown.stdout
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: other\nlicense_name: mine\ntags:\n")
    digest = json.loads(onnx.load(out / "model.onnx").metadata_props[0].value)["source_sha256"]
    for text in (
        "# bert, resized", digest, "| hidden | 24 | 12 |", "| layers | 3 | 2 |", "| spec | sizes given one by one |",
        "Another function than the source's", "| run | pass |", "weights of the old sizes", bot_onnx.__version__,
    ):  # fmt: skip
        assert text in card
    assert [path.name for path in out.parent.iterdir()] == ["small"]


def test_a_sentence_encoder_of_optimum(tmp_path: Path) -> None:
    source, out = folders.sentence_encoder(tmp_path / "source"), tmp_path / "small"
    result = bot_onnx.resize(source, SMALL, out)
    assert result.output == out and result.report.path == str(out / "onnx/model.onnx")
    files, before = held(out), held(source)
    assert files["1_Pooling/config.json"] == before["1_Pooling/config.json"].replace(b"24", b"12")
    same = {"modules.json", "sentence_bert_config.json", "notes.txt", *TOKENIZER}
    assert {name: files[name] for name in same} == {name: before[name] for name in same}
    made = {"onnx/model.onnx", "1_Pooling/config.json", "config.json", "README.md", "bot-onnx.json"}
    assert files.keys() == same | made
    assert result.plan.notes[-1] == "Left behind, for it is not known what it is: image.png."


def test_a_decoder_with_grouped_queries_grows(tmp_path: Path) -> None:
    source, out = folders.llama(tmp_path / "llama"), tmp_path / "large"
    plan = bot_onnx.open(source).plan({"layers": 4, "hidden": 48})
    assert plan.write(out).output == out
    changed = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 8}
    assert told(out) == {**folders.LLAMA, **changed, "num_key_value_heads": 4}
    card = (out / "README.md").read_text()
    assert plan.promise.kept and "are those of the source, through the operators" in card
    assert len(plan.apply().graph.output) == 1  # the model alone
    assert bot_onnx.verify(out, spec=out, against=source).passed


def test_what_timm_cannot_be_told_is_said_when_planning(tmp_path: Path) -> None:
    source = folders.convolutional(tmp_path / "timm")
    shown = run("resize", source, "--hidden", 8, "--dry-run")
    assert shown.exit_code == 0 and "its constructor is not told of the new ones" in shown.stderr
    assert "timm-hidden8 was not written" in shown.stderr and [p.name for p in tmp_path.iterdir()] == ["timm"]
    assert run("resize", source, "--hidden", 8, "-q").exit_code == 0
    assert told(tmp_path / "timm-hidden8")["num_features"] == 8


def test_a_config_does_not_lie(tmp_path: Path) -> None:
    source, out = folders.bert(tmp_path / "bert"), tmp_path / "out"
    shown = run("resize", source, "--heads", 2, "--head-dim", 6, "-o", out, "--json")
    assert shown.exit_code == 0 and "derives head_dim 12" in shown.stderr
    config = told(out)
    assert config["num_attention_heads"] is None and config["hidden_size"] == 24
    assert any("derives head_dim 12" in note for note in json.loads(shown.stdout)["plan"]["notes"])
    assert "derives head\\_dim 12" in (out / "README.md").read_text()
    assert bot_onnx.verify(out, spec=out / "config.json").passed


def test_which_of_several_models(tmp_path: Path) -> None:
    source = folders.sentence_encoder(tmp_path / "source")
    onnx.save(folders.network(), source / "model.onnx")
    shown = run("resize", source, "--layers", 2, "-o", tmp_path / "out")
    assert shown.exit_code == 1 and "for example --file model.onnx" in shown.stderr
    assert "model.onnx, onnx/model.onnx" in shown.stderr
    with pytest.raises(GraphError, match=r"no 'x\.onnx'"):
        bot_onnx.open(source, file="x.onnx").inspect()
    with pytest.raises(GraphError, match="no folder is given"):
        bot_onnx.open(source / "model.onnx", file="model.onnx").inspect()
    shown = run("resize", source, "--file", "onnx/model.onnx", "--layers", 2, "-o", tmp_path / "out")
    assert shown.exit_code == 0 and "weights of the old sizes: model.onnx." in shown.stderr
    assert (tmp_path / "out/onnx/model.onnx").exists() and not (tmp_path / "out/model.onnx").exists()
    (tmp_path / "none").mkdir()
    with pytest.raises(GraphError, match=r"without an \.onnx file"):
        bot_onnx.inspect(tmp_path / "none")


def test_weights_beside_the_model(tmp_path: Path) -> None:
    source, out = folders.bert(tmp_path / "bert"), tmp_path / "out"
    made = onnx.load(source / "model.onnx")
    onnx.save(made, source / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    bot_onnx.resize(source, SMALL, out)
    (data,) = out.glob("model.onnx.*.data")
    assert "model.onnx_data" not in (out / "README.md").read_text()
    assert bot_onnx.resize(source, {"layers": 1}, out, force=True).report.passed
    assert not data.exists() and len([*out.glob("*.data")]) == 1


def test_only_folders_of_this_tool_are_replaced(tmp_path: Path) -> None:
    source, out = folders.bert(tmp_path / "bert"), tmp_path / "out"
    bot_onnx.resize(source, SMALL, out)
    before = held(out)
    with pytest.raises(OutputError, match="exists already"):
        bot_onnx.resize(source, {"layers": 1}, out)
    shown = run("resize", source, "--spec", out / "config.json", "-o", out, "--force")
    assert shown.exit_code == 1 and "holds a source of this command" in shown.stderr and held(out) == before
    (out / "tuned.bin").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write \(tuned.bin\)"):
        bot_onnx.resize(source, {"layers": 1}, out, force=True)
    assert held(out) == {**before, "tuned.bin": b"mine"}
    (out / "tuned.bin").unlink()
    bot_onnx.resize(source, {"layers": 1}, out, force=True)
    assert told(out)["num_hidden_layers"] == 1
    for target in (source, source / "inside", tmp_path):
        with pytest.raises(OutputError, match="lie in, one another"):
            bot_onnx.resize(source, SMALL, target, force=True)
    assert run("resize", source, "--layers", 1, "-o", source / "model.onnx", "--force").exit_code == 1
    shown = run("resize", source, "--layers", 1, "--dry-run", "--plan-out", source / "config.json", "--force")
    assert shown.exit_code == 1 and "which is never written to" in shown.stderr
    assert (source / "config.json").read_text() == folders.BERT


def test_a_failed_check_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = folders.bert(tmp_path / "bert"), tmp_path / "deep" / "out"

    def fail(*_: object, **__: object) -> None:
        raise VerifyError("no")

    monkeypatch.setattr("bot_onnx._engine.raise_unless_passed", fail)
    with pytest.raises(VerifyError):
        bot_onnx.resize(source, SMALL, out)
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    source = folders.bert(tmp_path / "bert")
    (source / "config.json").write_text('{"hidden_size": 24,}')
    shown = run("resize", source, "--layers", 2, "-o", tmp_path / "out")
    assert shown.exit_code == 1 and "config.json: not valid JSON" in shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_a_config_that_cannot_say_the_sizes_is_refused_before_a_weight_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bloom's configs derive the inner width, 4 x hidden, and have no key for another."""
    bloom = {"model_type": "bloom", "hidden_size": 24, "n_layer": 3, "n_head": 4, "vocab_size": 11}
    source = folders.write(tmp_path / "bloom", folders.network(inner=96), {"config.json": bloom})

    def computed(*_: object, **__: object) -> None:
        raise AssertionError("weights were computed")

    monkeypatch.setattr("bot_onnx._engine.write_model", computed)
    with pytest.raises(SpecError, match="would say intermediate 96 where the plan has 40"):
        bot_onnx.resize(source, {"layers": 2, "intermediate": 40}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bloom"]


def test_a_module_of_old_weights_is_told_of(tmp_path: Path) -> None:
    source = folders.sentence_encoder(tmp_path / "source")
    modules = [*told(source, "modules.json"), {"idx": 2, "path": "2_Dense", "type": "Dense"}]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "2_Dense").mkdir()
    (source / "2_Dense" / "model.safetensors").write_bytes(b"\0")
    plan = bot_onnx.open(source).plan(SMALL)
    assert any("modules.json names '2_Dense', whose weights are of the old width" in note for note in plan.notes)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_links_are_followed_to_files_alone(tmp_path: Path) -> None:
    """As the hub's client keeps its folders; what is no file has nothing that could be copied."""
    source, blobs = folders.bert(tmp_path / "bert"), tmp_path / "blobs"
    blobs.mkdir()
    for name in ("model.onnx", "vocab.txt", "config.json"):
        (source / name).rename(blobs / f"blob-{name}")
        (source / name).symlink_to(blobs / f"blob-{name}")
    (source / "elsewhere").symlink_to(blobs)
    os.mkfifo(source / "pipe.txt")
    result = bot_onnx.resize(source, SMALL, tmp_path / "out")
    assert (tmp_path / "out" / "vocab.txt").read_text() == TOKENIZER["vocab.txt"]
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert result.plan.notes[-1].endswith("it is not known what it is: elsewhere/, pipe.txt.")


def test_files_make_their_folders(tmp_path: Path) -> None:
    source = folders.bert(tmp_path / "bert") / "model.onnx"
    assert run("resize", source, "--layers", 2, "-o", tmp_path / "a" / "b" / "small.onnx", "-q").exit_code == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["small.onnx"]
    assert run("resize", source, "--hidden", 13, "-o", tmp_path / "c" / "small.onnx", "-q").exit_code == 1
    assert not (tmp_path / "c").exists()


Hub = Callable[..., str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """A stand-in of the hub's client, and what it was asked for."""
    kept = folders.bert(tmp_path / "kept")
    asked: list[tuple[str, Any]] = []

    def download(name: str, *, revision: str | None, ignore_patterns: list[str]) -> str:
        asked.append((name, revision))
        if name == "org/none":
            raise OSError("404 not found\nand more")
        assert "*.safetensors" in ignore_patterns
        return str(kept)

    client = types.SimpleNamespace(snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_folder_of_the_hub(hub: list[tuple[str, Any]], tmp_path: Path) -> None:
    shown = run("resize", "hf://org/name@v1", "--layers", 2)
    assert shown.exit_code == 0, shown.stderr
    assert set(hub) == {("org/name", "v1")}  # asked more than once: the client keeps what it has fetched
    out = tmp_path / "name@v1-layers2"
    card = (out / "README.md").read_text()
    assert "base_model: org/name\n" in card and "# hf://org/name@v1, resized" in card
    assert str(tmp_path) not in card + shown.stdout + (out / "bot-onnx.json").read_text()
    with pytest.raises(GraphError, match=r"hf://org/none cannot be fetched: 404 not found$"):
        bot_onnx.inspect("hf://org/none")
    with pytest.raises(GraphError, match="no folder of the hub"):
        bot_onnx.inspect("hf://name")


def test_the_hub_needs_its_client(hub: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingRuntimeError, match=re.escape(install("hub"))):
        bot_onnx.inspect("hf://org/name")


@pytest.mark.exporter
def test_transformers_reads_the_configs(tmp_path: Path) -> None:
    import_timm()  # which transformers does, too, where it is installed
    transformers = pytest.importorskip("transformers")
    for made, spec in ((folders.bert, SMALL), (folders.llama, {**SMALL, "heads": 4, "head_dim": 4})):
        out = tmp_path / f"{made.__name__}-small"
        bot_onnx.resize(made(tmp_path / made.__name__), spec, out)
        config = transformers.AutoConfig.from_pretrained(out)
        assert (config.num_hidden_layers, config.hidden_size) == (2, 12)
    assert config.head_dim == 4


@pytest.mark.exporter
def test_timm_builds_what_its_config_says(tmp_path: Path) -> None:
    import_timm()
    import timm

    source = {"architecture": "vit_tiny_patch16_224", "num_features": 32, "num_classes": 5, "pretrained_cfg": {}}
    moves = {"hidden": (32, 16), "heads": (4, 2), "head_dim": (8, 8), "intermediate": (128, 40)}
    plan = Sizes({role: frozenset([move]) for role, move in moves.items()}, ((12, 2),))
    (tmp_path / "config.json").write_text(json.dumps(timm_config.resized(source, plan, "config.json").data))
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=False)
    assert model.num_features == 16 and len(model.blocks) == 2 and model.blocks[0].mlp.fc1.out_features == 40

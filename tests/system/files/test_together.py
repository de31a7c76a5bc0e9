"""Files that are used one after the other come out fitting: encoder and decoder, decoders with a cache, a head."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._verify.types import Check
from bot_onnx.errors import BotError, DimError, GraphError, OutputError, SpecError, VerifyError
from tests import pair_graphs as graphs
from tests.pair_graphs import Widths

TOKENS = {"input_ids": np.array([[1, 5, 2, 7, 3], [4, 4, 9, 0, 12]], np.int64)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    models = {
        "encoder_model": graphs.encoder(),
        "decoder_model": graphs.decoder(),
        "decoder_with_past_model": graphs.decoder(past=True),
        "embedder": graphs.embedder(),
        "head": graphs.head(),
    }
    return {path.stem: path for path in graphs.write(folder, **models)}


def trio(files: dict[str, Path]) -> list[Path]:
    return [files[name] for name in ("encoder_model", "decoder_model", "decoder_with_past_model")]


def chain(folder: Path) -> list[dict[str, np.ndarray]]:
    """What encoder, decoder and the decoder with its cache give, one after the other."""
    encoded = graphs.run(folder / "encoder_model.onnx", TOKENS)
    states = {"encoder_hidden_states": encoded["last_hidden_state"]}
    first = graphs.run(folder / "decoder_model.onnx", {**TOKENS, **states})
    path = folder / "decoder_with_past_model.onnx"
    if not path.exists():
        return [encoded, first]
    past = {name.replace("present", "past_key_values"): array for name, array in first.items()}
    return [encoded, first, graphs.run(path, {"input_ids": TOKENS["input_ids"][:, :1], **past})]


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_growth_keeps_what_the_chain_computes(files: dict[str, Path], tmp_path: Path) -> None:
    spec = {"hidden": 32, "intermediate": 48, "layers": 3}
    made = bot_onnx.resize_together(trio(files), spec, tmp_path / "out")
    assert all(plan.promise.kept for plan in made.plans.values())
    before, after = chain(files["encoder_model"].parent), chain(tmp_path / "out")
    for old, new in zip(before[1:], after[1:], strict=True):
        np.testing.assert_allclose(new["logits"], old["logits"], atol=1e-5 * np.abs(old["logits"]).max())
    assert after[0]["last_hidden_state"].shape == (2, 5, 32)


def test_what_shrinks_still_fits_and_is_resized_by_one_operator(files: dict[str, Path], tmp_path: Path) -> None:
    made = bot_onnx.resize_together(trio(files), {"hidden": 8, "layers": 1}, tmp_path / "out")
    assert [check.status for check in made.checks] == ["pass"] * 6
    encoded, first, second = chain(tmp_path / "out")
    assert encoded["last_hidden_state"].shape == (2, 5, 8)
    assert first["present.0.encoder.key"].shape == (2, 2, 5, 4)
    assert second["present.0.decoder.value"].shape == (2, 2, 6, 4)
    assert "present.1.decoder.key" not in first


def test_values_meet_where_the_dim_between_stays(tmp_path: Path) -> None:
    """Neurons that do nothing are chosen to go in both halves: the rest computes what it did, index by index."""
    models = {"encoder_model": graphs.encoder(), "decoder_model": graphs.decoder()}
    dead = np.arange(24) % 3 == 1
    for model in models.values():
        for tensor in model.graph.initializer:
            if tensor.name.endswith((".up", ".down")):
                array = numpy_helper.to_array(tensor).copy()
                array[(slice(None), dead) if tensor.name.endswith(".up") else dead] = 0
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    made = bot_onnx.resize_together(graphs.write(tmp_path / "in", **models), {"intermediate": 16}, tmp_path / "out")
    assert {plan.align for plan in made.plans.values()} == {"select"}
    for old, new in zip(chain(tmp_path / "in"), chain(tmp_path / "out"), strict=True):
        for name, array in old.items():
            np.testing.assert_allclose(new[name], array, atol=1e-5, err_msg=name)


def test_the_state_between_files_is_not_turned(files: dict[str, Path], tmp_path: Path) -> None:
    pair = [files["encoder_model"], files["decoder_model"]]
    assert bot_onnx.plan(files["encoder_model"], {"hidden": 8}).align == "rotate"
    made = bot_onnx.plan_together(pair, {"hidden": 8})
    assert made.plans["encoder_model"].align == "select"
    assert any("last_hidden_state" in note for note in made.plans["encoder_model"].notes)
    request = bot_onnx.ResizeRequest({"hidden": 8}, align="rotate")
    with pytest.raises(BotError, match="'last_hidden_state' shows hidden to another model"):
        bot_onnx.plan_together(pair, request)


def test_a_decoder_with_a_twin_is_not_turned(files: dict[str, Path]) -> None:
    twins = trio(files)[1:]
    made = bot_onnx.plan_together(twins, {"hidden": 8})
    assert {plan.align for plan in made.plans.values()} == {"select"}


@pytest.mark.parametrize(
    "method",
    ["bot", pytest.param("scratch", marks=pytest.mark.thorough), pytest.param("ws", marks=pytest.mark.thorough)],
)
def test_shared_tensors_come_out_the_same(files: dict[str, Path], tmp_path: Path, method: str) -> None:
    """Also where details are drawn at random, although the stacks have other numbers in each file."""
    spec = {"hidden": 8} if method == "ws" else {"hidden": 32, "heads": 8}
    request = bot_onnx.ResizeRequest(spec, method=method)
    bot_onnx.resize_together(trio(files)[1:], request, tmp_path / "out")
    one, other = (tensors(tmp_path / "out" / path.name) for path in trio(files)[1:])
    shared = [name for name in one if name in other and one[name].ndim == 2 and name != "decoder.words"]
    assert len(shared) > 10
    for name in shared:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_head_follows_its_embedder(files: dict[str, Path], tmp_path: Path) -> None:
    pair = [files["embedder"], files["head"]]
    made = bot_onnx.resize_together(pair, {"hidden": 32}, tmp_path / "grown")
    assert made.links == (("embedder:embedding", "head:embedding"),)
    old, new = (
        graphs.run(folder / "head.onnx", graphs.run(folder / "embedder.onnx", TOKENS))["scores"]
        for folder in (files["head"].parent, tmp_path / "grown")
    )
    np.testing.assert_allclose(new, old, atol=1e-5)
    bot_onnx.resize_together(pair, {"hidden": 8}, tmp_path / "small")
    assert tensors(tmp_path / "small" / "head.onnx")["up"].shape == (8, 10)


def test_alone_the_input_of_a_head_is_the_worlds(files: dict[str, Path]) -> None:
    with pytest.raises(DimError, match="frozen"):
        bot_onnx.plan(files["head"], {"dims": {"dim_16": 8}})


def test_names_that_differ_are_said(tmp_path: Path) -> None:
    models = {"enc": graphs.encoder(output="states"), "dec": graphs.decoder(reads="memory")}
    pair = graphs.write(tmp_path / "in", **models)
    with pytest.raises(GraphError, match=r"enc is not connected with dec.*--connect"):
        bot_onnx.resize_together(pair, {"hidden": 8}, tmp_path / "out")
    made = bot_onnx.resize_together(pair, {"hidden": 8}, tmp_path / "out", connect=["enc:states=dec:memory"])
    assert made.links == (("enc:states", "dec:memory"),)
    states = graphs.run(tmp_path / "out" / "enc.onnx", TOKENS)["states"]
    assert graphs.run(tmp_path / "out" / "dec.onnx", {**TOKENS, "memory": states})["logits"].shape == (2, 5, 13)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("enc:nothing=dec:encoder_hidden_states", "enc has no output 'nothing'"),
        ("enc:last_hidden_state=dec:nothing", "dec has no input 'nothing'"),
        ("other:x=dec:encoder_hidden_states", "no file is called 'other'"),
        ("enc.last_hidden_state", "is no connection"),
    ],
)
def test_a_connection_that_is_none_is_refused(tmp_path: Path, said: str, told: str) -> None:
    pair = graphs.write(tmp_path, enc=graphs.encoder(), dec=graphs.decoder())
    with pytest.raises(GraphError, match=told):
        bot_onnx.plan_together(pair, {"hidden": 8}, connect=[said])


def test_files_of_other_sizes_are_no_pair(tmp_path: Path) -> None:
    pair = graphs.write(tmp_path, enc=graphs.encoder(Widths(hidden=32, heads=8)), dec=graphs.decoder())
    with pytest.raises(GraphError, match=r"'last_hidden_state' of enc .*32.* does not fit .* dec .*16"):
        bot_onnx.plan_together(pair, {"layers": 1})


def test_sizes_by_file(files: dict[str, Path]) -> None:
    pair = [files["encoder_model"], files["decoder_model"]]
    made = bot_onnx.plan_together(pair, {"layers": {"encoder_model:encoder": 1, "decoder": 3}})
    assert [(layer.chain, layer.target) for plan in made.plans.values() for layer in plan.layers] == [
        ("encoder", 1), ("decoder", 3),
    ]  # fmt: skip
    with pytest.raises(SpecError, match=r"'layers.nothing': no file has it; they have: decoder, encoder"):
        bot_onnx.plan_together(pair, {"layers": {"nothing": 1}})
    with pytest.raises(SpecError, match="a list goes by the order of chains in one file"):
        bot_onnx.plan_together(pair, {"layers": [1, 2]})


def test_two_sizes_for_one_dim_are_refused(files: dict[str, Path]) -> None:
    pair = [files["encoder_model"], files["decoder_model"]]
    spec = {"dims": {"encoder_model:hidden": 8, "decoder_model:dim_16": 12}}
    with pytest.raises(DimError, match=r"8 in encoder_model .*12 in decoder_model"):
        bot_onnx.plan_together(pair, spec)


def test_twins_keep_one_depth(files: dict[str, Path]) -> None:
    spec = {"layers": {"decoder_model:decoder": 1}}
    with pytest.raises(SpecError, match="are the same layers, and would be 1 and 2"):
        bot_onnx.plan_together(trio(files)[1:], spec)


def test_nothing_is_left_where_files_do_not_fit(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [files["encoder_model"], files["decoder_model"]]
    with monkeypatch.context() as patched:
        patched.setattr("bot_onnx._together.job.hand_over", lambda *_: [Check("operators", "fail", "they differ")])
        with pytest.raises(VerifyError, match="do not fit together any more: operators: they differ"):
            bot_onnx.resize_together(pair, {"hidden": 8}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    for force in (False, True):
        with pytest.raises(OutputError):
            bot_onnx.resize_together(pair, {"hidden": 8}, tmp_path / "out", force=force)
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


def test_a_mixture_fails_verification(files: dict[str, Path], tmp_path: Path) -> None:
    """An encoder grown with other draws than the decoder reads by: each of them is right, and they are no pair."""
    pair = [files["encoder_model"], files["decoder_model"]]
    for name, seed in (("one", 0), ("two", 1)):
        request = bot_onnx.ResizeRequest({"hidden": 8}, method="ws" if seed else "bot")
        bot_onnx.resize_together(pair, request, tmp_path / name)
    assert bot_onnx.verify_together(tmp_path / "one", pair).passed
    shutil.copy(tmp_path / "two" / "decoder_model.onnx", tmp_path / "one" / "decoder_model.onnx")
    report = bot_onnx.verify_together(tmp_path / "one", pair)
    assert [check.name for check in report.checks if check.status == "fail"] == ["operators"]


def test_a_folder_of_both_goes_in_and_comes_out(files: dict[str, Path], tmp_path: Path) -> None:
    folder, out = tmp_path / "whisper", tmp_path / "small"
    folder.mkdir()
    for path in trio(files):
        shutil.copy(path, folder)
    config = {
        "model_type": "whisper", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 13,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    done = CliRunner().invoke(cli, ["resize", str(folder), "--hidden", "8", "--layers", "1", "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["plans"]) == {"encoder_model", "decoder_model", "decoder_with_past_model"}
    assert all(check["status"] == "pass" for check in told["checks"])
    assert json.loads((out / "config.json").read_text()) == config | {
        "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12,
    }  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "bot-onnx.json", "config.json", "decoder_model.onnx", "decoder_with_past_model.onnx",
        "encoder_model.onnx", "tokenizer.json",
    ]  # fmt: skip
    chain(out)
    verified = CliRunner().invoke(cli, ["verify", str(out), "--against", str(folder)])
    assert verified.exit_code == 0, verified.output
    alone = CliRunner().invoke(
        cli,
        ["resize", str(folder), "--file", "decoder_model.onnx", "--hidden", "8", "-o", str(tmp_path / "one"), "-q"],
    )
    assert alone.exit_code == 0, alone.output
    assert not (tmp_path / "one" / "encoder_model.onnx").exists()


def test_what_is_of_one_model_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    pair = [str(files["encoder_model"]), str(files["decoder_model"])]
    for options in (["--plan-out", "p.json"], ["--quantize", "int8"], ["--file", "x.onnx"]):
        done = CliRunner().invoke(cli, ["resize", *pair, "--hidden", "8", "-o", str(tmp_path / "out"), *options])
        assert done.exit_code == 2 and options[0] in done.stderr
    done = CliRunner().invoke(cli, ["resize", pair[0], "--hidden", "8", "--connect", "a:b=c:d"])
    assert done.exit_code == 2 and "--connect" in done.stderr

"""``resize --vocab-from``: model, tokenizer and configs lose the same tokens, in files and in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx.errors import SpecError
from tests.folders import CARD
from tests.graphs import GraphBuilder

tokenizers = pytest.importorskip("tokenizers")
from tests.unit.vocabulary.tokenizers_made import KINDS, data_of, trained  # noqa: E402

TEXT = ["the newest words that it reads", "naïve tokens, 12 北京!", "lowest", "the the the"]
HIDDEN = 8


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code not in (0, 70), result.output
    return result.output


def network(rows: int, pad: int | None = None) -> onnx.ModelProto:
    b = GraphBuilder()
    x = b.op("Gather", b.weight(rows, HIDDEN, name="words"), "input_ids")
    if pad is not None:
        there = b.op("Cast", b.op("Not", b.op("Equal", "input_ids", b.constant(np.array(pad)))), to=1)
        x = b.op("Mul", x, b.op("Unsqueeze", there, b.ints(-1)))
    x = b.op("Tanh", b.op("MatMul", x, b.weight(HIDDEN, HIDDEN)))
    x = b.op("Add", b.op("MatMul", x, b.weight(HIDDEN, rows, name="head")), b.weight(rows, name="bias"))
    return b.model([("input_ids", ["batch", "sequence"])], [x], integer_inputs=["input_ids"], opset=18, rank=3)


def text(folder: Path, lines: list[str] = TEXT) -> Path:
    path = folder / "lines.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def held(output: Path, source: Path, cut: Path, whole: Any) -> None:
    """On every line the cut model gives for the cut tokenizer's ids what the source gives for its own."""
    kept = json.loads(cut.with_name(cut.name.replace("tokenizer.json", "vocabulary_map.json")).read_text())["old_ids"]
    new = tokenizers.Tokenizer.from_file(str(cut))
    first, second = (onnxruntime.InferenceSession(str(path)) for path in (source, output))
    for line in TEXT:
        before, after = whole.encode(line).ids, new.encode(line).ids
        assert [kept[ident] for ident in after] == before
        wanted = first.run(None, {"input_ids": np.array([before])})[0][..., kept]
        np.testing.assert_allclose(second.run(None, {"input_ids": np.array([after])})[0], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_its_tokenizer_beside(kind: str, tmp_path: Path) -> None:
    whole = trained(kind)
    whole.save(str(tmp_path / "tokenizer.json"))
    rows = whole.get_vocab_size() + 3  # rows that no token has, as padded tables have
    onnx.save(network(rows, pad=1), tmp_path / "model.onnx")
    output = tmp_path / "small.onnx"
    told = json.loads(
        done("resize", tmp_path / "model.onnx", "--vocab-from", text(tmp_path), "-o", output, "--json").stdout
    )["vocabulary"]
    assert told["tokens"][0] == rows and told["tokens"][1] < rows
    assert told["text"]["lines"] == told["text"]["lines_of_the_same_tokens"] == 4
    held(output, tmp_path / "model.onnx", tmp_path / "small.tokenizer.json", whole)


def test_what_is_said_and_not_written_over(tmp_path: Path) -> None:
    whole = trained("wordpiece")
    (tmp_path / "here").mkdir()
    whole.save(str(tmp_path / "here" / "tokenizer.json"))
    source, output = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(network(whole.get_vocab_size()), source)
    command = ("resize", source, "--vocab-from", text(tmp_path), "-o", output, "--tokenizer", tmp_path / "here")
    dry = done(*command, "--dry-run")
    assert "4 of 4 lines are made of the same tokens" in dry.stderr and not output.exists()
    first = done(*command)
    assert "parameters were of tokens" in first.stderr and "lost accuracy" not in first.stdout
    output.unlink()
    assert "small.tokenizer.json" in refused(*command)
    assert not output.exists()
    done(*command, "--force")


def test_the_cut_tokenizer_does_not_replace_the_whole_one(tmp_path: Path) -> None:
    whole = trained("wordpiece")
    given, beside = tmp_path / "small.tokenizer.json", tmp_path / "tokenizer.json"
    for path in (given, beside):
        whole.save(str(path))
    source, before = tmp_path / "model.onnx", given.read_bytes()
    onnx.save(network(whole.get_vocab_size()), source)
    command = ("resize", source, "--vocab-from", text(tmp_path), "--force")
    for flags in (("--tokenizer", given, "-o", tmp_path / "small.onnx"), ("-o", beside), ("--plan-out", beside)):
        assert "a source of this command" in refused(*command, *flags)
    assert given.read_bytes() == beside.read_bytes() == before


def test_a_recipe_cannot_make_a_tokenizer(tmp_path: Path) -> None:
    whole = trained("wordpiece")
    whole.save(str(tmp_path / "tokenizer.json"))
    source, output, recipe = (tmp_path / name for name in ("model.onnx", "small.onnx", "again.json"))
    onnx.save(network(whole.get_vocab_size()), source)
    told = refused("resize", source, "--vocab-from", text(tmp_path), "-o", output, "--recipe-out", recipe)
    assert "'vocab-from' makes a tokenizer as well" in told and "by a command of its own" in told
    assert not output.exists() and not recipe.exists()


def test_a_plan_that_is_run_again_cuts_the_tokenizer_too(tmp_path: Path) -> None:
    whole = trained("byte-level BPE")
    whole.save(str(tmp_path / "tokenizer.json"))
    source, plan = tmp_path / "model.onnx", tmp_path / "plan.json"
    onnx.save(network(whole.get_vocab_size()), source)
    done("resize", source, "--vocab-from", text(tmp_path), "-o", tmp_path / "a.onnx", "--plan-out", plan)
    (tmp_path / "again").mkdir()
    done("resize", source, "--plan", plan, "-o", tmp_path / "again" / "a.onnx")
    for name in ("a.onnx", "a.tokenizer.json", "a.vocabulary_map.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_lists_of_ids(tmp_path: Path) -> None:
    source, output = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(network(40), source)
    keep = tmp_path / "ids.txt"
    keep.write_text("7 # seven\n\n3\n3\n39\n")
    assert "there is no tokenizer.json" in done("resize", source, "--vocab-keep", keep, "-o", output).stderr
    assert json.loads((tmp_path / "small.vocabulary_map.json").read_text()) == {
        "source_rows": 40, "rows": 3, "old_ids": [3, 7, 39],
    }  # fmt: skip
    assert not (tmp_path / "small.tokenizer.json").exists()
    (tmp_path / "ids.json").write_text('{"keep": [3, 7, 39]}')
    done("resize", source, "--vocab-keep", tmp_path / "ids.json", "-o", tmp_path / "other.onnx")
    assert (tmp_path / "other.onnx").read_bytes() == output.read_bytes()
    kept = tmp_path / "small.vocabulary_map.json"
    done("resize", source, "--vocab-keep", kept, "-o", tmp_path / "other.onnx", "--force")
    before = kept.read_bytes()
    assert "a source of this command" in refused("resize", source, "--vocab-keep", kept, "-o", output, "--force")
    assert kept.read_bytes() == before
    keep.write_text("7\nseven\n")
    assert "ids.txt, line 2: 'seven' is no id" in refused("resize", source, "--vocab-keep", keep, "-o", "x.onnx")
    keep.write_text("40\n")
    assert "names token 40, and the model has 40" in refused("resize", source, "--vocab-keep", keep, "-o", "x.onnx")


def test_a_list_and_a_tokenizer_keep_what_the_tokens_need(tmp_path: Path) -> None:
    whole = trained("byte-level BPE")
    whole.save(str(tmp_path / "tokenizer.json"))
    source = tmp_path / "model.onnx"
    onnx.save(network(whole.get_vocab_size()), source)
    (tmp_path / "ids.txt").write_text(f"{whole.token_to_id('Ġtokenizer')}\n")
    done("resize", source, "--vocab-keep", tmp_path / "ids.txt", "-o", tmp_path / "small.onnx")
    cut = tokenizers.Tokenizer.from_file(str(tmp_path / "small.tokenizer.json"))
    assert cut.encode("a tokenizer").tokens == ["a", "Ġtokenizer"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--vocab-size", "9"), "give --vocab-from TEXT with it"),
        (("--vocab-from", "lines.txt", "--vocab", "9"), "leave it out beside"),
        (("--tokenizer", "tokenizer.json", "--hidden", "4"), "belongs to '--vocab-from'"),
        (("--vocab-from", "lines.txt"), "name its tokenizer.json with --tokenizer"),
        (("--vocab-from", "lines.txt", "--tokenizer", "none.json"), "none.json cannot be read as a tokenizer"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text(tmp_path)
    onnx.save(network(40), "model.onnx")
    assert told in " ".join(refused("resize", "model.onnx", "-o", "small.onnx", *options).split())
    assert not Path("small.onnx").exists()


def folder(path: Path, kind: str = "wordpiece", **config: Any) -> tuple[Path, Any]:
    whole = trained(kind)
    path.mkdir()
    whole.save(str(path / "tokenizer.json"))
    rows = whole.get_vocab_size()
    onnx.save(network(rows), path / "model.onnx")
    told = {"model_type": "bert", "hidden_size": HIDDEN, "vocab_size": rows, "pad_token_id": 0, **config}
    (path / "config.json").write_text(json.dumps(told, indent=2))
    (path / "README.md").write_text(CARD)
    return path, whole


def test_a_folder_says_the_new_ids_wherever_it_says_ids(tmp_path: Path) -> None:
    source, whole = folder(tmp_path / "source", eos_token_id=[3, 2], pad_token_id=-1, bos_token_id=None)
    last = whole.get_vocab_size() - 1  # a word that the text does not have
    generation = {
        "decoder_start_token_id": last, "suppress_tokens": [2, 60, 61], "forced_decoder_ids": [[1, 3]],
        "bad_words_ids": [[2, 3], [60, 61]], "max_length": 20,
    }  # fmt: skip
    (source / "generation_config.json").write_text(json.dumps(generation))
    vocab = sorted(whole.get_vocab(), key=whole.get_vocab().get)
    (source / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (source / "added_tokens.json").write_text(json.dumps({"[CLS]": 2}))
    (source / "spiece.model").write_bytes(b"\x0a\x0bold")
    added = {"0": {"content": "[PAD]"}, "2": {"content": "[CLS]"}}
    (source / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    made = tmp_path / "made"
    result = done("resize", source, "--vocab-from", text(tmp_path, ["the fox"]), "-o", made)
    ids = json.loads((made / "vocabulary_map.json").read_text())["old_ids"]
    new = {old: place for place, old in enumerate(ids)}
    assert {0, 1, 2, 3, last} <= new.keys()
    config = json.loads((made / "config.json").read_text())
    assert config["vocab_size"] == len(ids) and config["eos_token_id"] == [new[3], new[2]]
    assert config["pad_token_id"] == -1 and config["bos_token_id"] is None
    told = json.loads((made / "generation_config.json").read_text())
    assert told["decoder_start_token_id"] == new[last] == len(ids) - 1
    assert told["suppress_tokens"] == [new[ident] for ident in (2, 60, 61) if ident in new]
    assert told["forced_decoder_ids"] == [[1, new[3]]] and told["max_length"] == 20
    assert [new[2], new[3]] in told["bad_words_ids"]
    assert (made / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == [vocab[old] for old in ids]
    assert json.loads((made / "added_tokens.json").read_text()) == {"[CLS]": new[2]}
    assert json.loads((made / "tokenizer_config.json").read_text())["added_tokens_decoder"].keys() == {"0", "2"}
    assert not (made / "spiece.model").exists() and "spiece.model" in result.stderr
    assert "do not fit" not in result.stderr
    card = (made / "README.md").read_text()
    assert "spiece.model" in card
    again = done(
        "resize", source, "--vocab-from", text(tmp_path, ["the fox"]), "--hidden", "4", "-o", tmp_path / "both"
    )
    assert json.loads((tmp_path / "both" / "config.json").read_text())["hidden_size"] == 4, again.output


def test_a_spec_that_leaves_out_what_must_stay_is_refused(tmp_path: Path) -> None:
    source, _ = folder(tmp_path / "source")
    opened = bot_onnx.open(source)
    with pytest.raises(SpecError, match=r"cannot do without are to go: 0 \('\[PAD\]'\)"):
        opened.resize({"vocab": {"keep": [1, 2, 3, 40]}}, tmp_path / "made")
    (source / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 10, "pad_token_id": 50}))
    with pytest.raises(SpecError, match="'pad_token_id' names token 50, which does not stay"):
        opened.resize({"vocab": {"keep": [0, 1, 2, 3, 40]}}, tmp_path / "made")
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(SpecError, match=r"vocab\.txt is a tokenizer's file, and there is no tokenizer\.json"):
        opened.resize({"vocab": {"keep": [0, 1, 2, 3, 40]}}, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.exporter
@pytest.mark.parametrize("kind", ["wordpiece", "byte-level BPE", "unigram"])
def test_transformers_reads_the_folder(kind: str, tmp_path: Path) -> None:
    """The classes of its families, which build tokenizers of their own of what the files say."""
    transformers = pytest.importorskip("transformers")
    source, whole = folder(tmp_path / "source", kind)
    special = {
        "wordpiece": {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"},
        "byte-level BPE": {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
        "unigram": {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"},
    }[kind]
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **special)
    fast.save_pretrained(source)
    made = tmp_path / "made"
    done("resize", source, "--vocab-from", text(tmp_path), "-o", made)
    ids = json.loads((made / "vocabulary_map.json").read_text())["old_ids"]
    new = transformers.AutoTokenizer.from_pretrained(made)
    old = transformers.AutoTokenizer.from_pretrained(source)
    for line in TEXT:
        assert [ids[ident] for ident in new(line)["input_ids"]] == old(line)["input_ids"]
        assert new.decode(new(line)["input_ids"]) == old.decode(old(line)["input_ids"])
    assert [ids[ident] for ident in new.all_special_ids] == old.all_special_ids
    assert len(new) == len(ids) < len(old)
    assert data_of(kind)["model"]["type"] == json.loads((made / "tokenizer.json").read_text())["model"]["type"]

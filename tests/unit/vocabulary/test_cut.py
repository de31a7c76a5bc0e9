"""A cut tokenizer makes of a text the tokens that the whole one makes, under other numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bot_onnx
from bot_onnx._vocabulary import Tokenizer, cut_tokenizer, cut_vocabulary
from bot_onnx._vocabulary.closure import Closure
from bot_onnx.errors import DataError

pytest.importorskip("tokenizers")
from tests.unit.vocabulary.tokenizers_made import KINDS, data_of, saved, text_of

TEXT = ["the newest words that it reads", "naïve tokens, 12 北京!", "lowest", "the the the"]


def whole_of(kind: str) -> Tokenizer:
    return Tokenizer.parse(text_of(kind), kind)


def written(folder: Path, lines: list[str] = TEXT) -> Path:
    path = folder / "lines.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_has_the_same_tokens(kind: str, tmp_path: Path) -> None:
    whole = whole_of(kind)
    made = cut_vocabulary(whole, [written(tmp_path)])
    assert made.shown is not None and (made.shown.lines, made.shown.same) == (4, 4)
    assert len(made.ids) < len(whole.tokens)
    for line in TEXT:
        before, after = whole.library.encode(line), made.cut.library.encode(line)
        assert [made.ids[ident] for ident in after.ids] == before.ids
        assert after.tokens == before.tokens


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_asked_for_the_ids_are_the_places_of_the_rows(kind: str, tmp_path: Path) -> None:
    whole = whole_of(kind)
    made = cut_vocabulary(whole, [written(tmp_path)])
    found = made.cut.library.get_vocab(with_added_tokens=True)
    assert {ident: token for token, ident in found.items()} == {
        new: whole.tokens[old] for new, old in enumerate(made.ids)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_tokens_than_the_text_has(kind: str, tmp_path: Path) -> None:
    whole = whole_of(kind)
    least = len(Closure(whole).always)
    made = cut_vocabulary(whole, [written(tmp_path)], size=least + 12)
    assert made.shown is not None
    assert len(made.ids) <= least + 12
    assert made.shown.lines == 4
    for line in TEXT:  # what no longer has tokens of its own is made of what is left
        ids = made.cut.library.encode(line).ids
        assert all(ident < len(made.ids) for ident in ids)


def test_the_most_frequent_stay(tmp_path: Path) -> None:
    whole = whole_of("words")
    lines = written(tmp_path, ["fox fox fox dog dog words", "fox dog words words rows"])
    made = cut_vocabulary(whole, [lines], size=len(Closure(whole).always) + 3)
    kept = {whole.tokens[ident] for ident in made.ids} - {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
    assert kept == {"fox", "dog", "words"}
    assert made.choice.counted == 11 and made.choice.covered == 10
    assert made.shown is not None and made.shown.same == 1


def test_special_tokens_stay_and_are_renumbered_wherever_they_are_named(tmp_path: Path) -> None:
    data = data_of("wordpiece")
    data["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    vocab = data["model"]["vocab"]  # special tokens behind the words, where a cut moves them
    shift = {old: (old - 4) % len(vocab) for old in range(len(vocab))}
    data["model"]["vocab"] = {token: shift[ident] for token, ident in vocab.items()}
    for entry in data["added_tokens"]:
        entry["id"] = shift[entry["id"]]
    for entry in data["post_processor"]["special_tokens"].values():
        entry["ids"] = [shift[ident] for ident in entry["ids"]]
    data["padding"]["pad_id"] = shift[0]
    whole = Tokenizer.parse(json.dumps(data), "moved")
    made = cut_vocabulary(whole, [written(tmp_path)])
    assert made.cut.library.encode("the").tokens == ["[CLS]", "the", "[SEP]"]
    assert made.cut.data["padding"]["pad_id"] == made.cut.library.token_to_id("[PAD]") != shift[0]


@pytest.mark.parametrize("old", [True, False])
def test_merges_of_old_and_new_files(old: bool, tmp_path: Path) -> None:
    data = data_of("byte-level BPE")
    pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in data["model"]["merges"]]
    data["model"]["merges"] = [" ".join(pair) for pair in pairs] if old else pairs
    whole = Tokenizer.parse(json.dumps(data), "merges")
    made = cut_vocabulary(whole, [written(tmp_path)])
    assert made.shown is not None and made.shown.same == 4
    assert 0 < len(made.cut.model["merges"]) < len(pairs)
    assert all(isinstance(entry, str) is old for entry in made.cut.model["merges"])


@pytest.mark.parametrize("kind", ["byte-level BPE", "BPE with bytes"])
def test_bytes_stay_so_that_any_text_has_tokens(kind: str, tmp_path: Path) -> None:
    made = cut_vocabulary(whole_of(kind), [written(tmp_path)])
    text = "Ωmega 日本 🤗"
    encoded = made.cut.library.encode(text)
    assert "<unk>" not in encoded.tokens and encoded.ids
    assert len(made.ids) >= 256


def test_words_that_no_pieces_make_up_stay_unknown(tmp_path: Path) -> None:
    """Without the piece that a word begins with, shorter ones might make it up."""
    vocab = ["[UNK]", "ab", "a", "##b", "##bc", "##c", "ab☃", "x"]
    data: dict[str, Any] = data_of("wordpiece")
    data["model"]["vocab"] = {token: place for place, token in enumerate(vocab)}
    data["added_tokens"] = [{**data["added_tokens"][1], "id": 0}]
    data["post_processor"] = None
    whole = Tokenizer.parse(json.dumps(data), "pieces")
    assert whole.library.encode("abbcd").tokens == ["[UNK]"]  # ab ##bc, and no ##d
    del data["model"]["vocab"]["##c"]
    made = cut_vocabulary(whole, [written(tmp_path, ["abbcd x"])])
    assert {"ab", "##bc"} <= {whole.tokens[ident] for ident in made.ids}
    assert made.cut.library.encode("abbcd").tokens == ["[UNK]"]


def test_the_least_likely_piece_stays(tmp_path: Path) -> None:
    """What is unknown costs a fixed amount more than it."""
    whole = whole_of("unigram")
    scores = [entry[1] for entry in whole.model["vocab"]]
    made = cut_vocabulary(whole, [written(tmp_path, ["the fox"])])
    assert scores.index(min(scores)) in made.ids
    assert min(entry[1] for entry in made.cut.model["vocab"]) == min(scores)


def test_what_cannot_be_cut_is_refused() -> None:
    whole = whole_of("wordpiece")
    with pytest.raises(DataError, match=r"cannot do without are to go: 0 \('\[PAD\]'\)"):
        cut_tokenizer(whole, [1, 2, 3, 50])
    with pytest.raises(DataError, match="is no tokenizer whose vocabulary can be cut"):
        Tokenizer.parse('{"model": {"type": "Magic", "vocab": {}}}', "odd.json")
    with pytest.raises(DataError, match="is no JSON"):
        Tokenizer.parse("{", "odd.json")
    random = data_of("byte-level BPE")
    random["model"]["dropout"] = 0.1
    with pytest.raises(DataError, match="at random"):
        Tokenizer.parse(json.dumps(random), "odd.json")
    strange = data_of("wordpiece")
    strange["post_processor"] = {"type": "Wrapping", "first": 5}
    with pytest.raises(DataError, match="'Wrapping' is not known"):
        cut_tokenizer(Tokenizer.parse(json.dumps(strange), "odd.json"), range(50))


def test_messages_name_the_file_and_the_line(tmp_path: Path) -> None:
    whole = whole_of("words")
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"fine\n\xff\xfe broken\n")
    with pytest.raises(DataError, match=r"odd\.txt, line 2 is no UTF-8"):
        cut_vocabulary(whole, [odd])
    with pytest.raises(DataError, match="has no lines"):
        cut_vocabulary(whole, [written(tmp_path, [""])])
    with pytest.raises(DataError, match="cannot be read"):
        cut_vocabulary(whole, [tmp_path / "nothing.txt"])
    with pytest.raises(DataError, match="4 tokens stay in any case"):
        cut_vocabulary(whole, [written(tmp_path)], size=3)
    with pytest.raises(DataError, match="token 9999 is to be kept"):
        cut_vocabulary(whole, [written(tmp_path)], also=[9999])


def test_a_line_that_comes_out_otherwise_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should what must stay be judged wrongly, the text shows it."""
    monkeypatch.setattr(Closure, "parts", lambda self, ident: {ident})
    whole = Tokenizer.read(saved("byte-level BPE", tmp_path))
    with pytest.raises(DataError, match=r"lines\.txt, line 1: the cut tokenizer makes other tokens"):
        cut_vocabulary(whole, [written(tmp_path)])


def test_ids_for_a_spec(tmp_path: Path) -> None:
    saved("wordpiece", tmp_path)
    ids = bot_onnx.tokens_of(tmp_path / "tokenizer.json", [written(tmp_path)], also=[7])
    assert 7 in ids and ids == tuple(sorted(set(ids)))
    assert bot_onnx.TargetSpec.parse({"vocab": {"keep": list(ids)}}).tokens == ids

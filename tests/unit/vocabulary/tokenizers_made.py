"""Tokenizers of every kind, trained on a few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = [
    "the quick brown fox jumps over the lazy dog",
    "a resized network keeps the words that it reads",
    "words that nobody reads are rows that nobody needs",
    "lower lowest newer newest wider widest tokens tokenizer tokenised",
    "numbers 12 345 6789, signs !? and naïve café 北京",
    "the tokenizer is cut with the network",
] * 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
KINDS = ("wordpiece", "byte-level BPE", "BPE with bytes", "BPE with word ends", "unigram", "words")


def _template(made: Any) -> None:
    pairs = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=pairs
    )


def wordpiece() -> Any:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    _template(made)
    return made


def byte_level() -> Any:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=420, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    )
    made.add_special_tokens(["<|late|>"])  # behind all others, as chat templates do
    return made


def with_bytes() -> Any:
    special = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    return made


def with_word_ends() -> Any:
    made = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=220, special_tokens=SPECIAL, end_of_word_suffix="</w>")
    )
    _template(made)
    return made


def unigram() -> Any:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(
        LINES, trainers.UnigramTrainer(vocab_size=120, special_tokens=["<pad>", "<unk>", "</s>"], unk_token="<unk>")
    )
    return made


def words() -> Any:
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=SPECIAL))
    return made


_MADE = dict(zip(KINDS, (wordpiece, byte_level, with_bytes, with_word_ends, unigram, words), strict=True))


def trained(kind: str) -> Any:
    return _MADE[kind]()


def text_of(kind: str) -> str:
    return str(trained(kind).to_str())


def data_of(kind: str) -> dict[str, Any]:
    return dict(json.loads(text_of(kind)))


def saved(kind: str, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(text_of(kind))
    return path

"""What must stay so that what stays is found: special tokens, bytes, and the parts that a token is put together from.

* BPE merges the pair of lowest rank first, and never undoes a merge. So what is merged inside a token is what is merged
  where the token stands alone, and merges that were never carried out are not missed (Sennrich, Haddow & Birch 2016,
  arXiv:1508.07909).
* WordPiece takes the longest piece from the left: of fewer pieces it takes the same, as long as these are there. Only a
  word that no pieces make up must fail at the same place, so its first pieces stay as well.
* Unigram takes the likeliest way through all pieces, which is the likeliest through some of them that has it (Kudo
  2018, arXiv:1804.10959). What is unknown costs a fixed amount more than the least likely piece, which stays therefore.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from bot_onnx._vocabulary.tokenizer import Tokenizer
from bot_onnx.errors import DataError

Pair = tuple[str, str]
_WORD_START: Final = "▁"
#: Of what stands around a text: kinds that name no tokens.
_NAMELESS: Final = frozenset({"ByteLevel", "Sequence"})


class Closure:
    """What tokens need.

    Args:
        tokenizer: the whole one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._whole = tokenizer
        self._model = tokenizer.model

    @cached_property
    def always(self) -> set[int]:
        """Ids that stay in any case.

        Raises:
            DataError: something names tokens in a way that is not known.
        """
        ids = self._whole.ids
        found = set(self._whole.added.values()) | set(template_ids(self._whole))
        if self._whole.kind == "Unigram":
            scores = [float(entry[1]) for entry in self._model["vocab"]]
            found |= {scores.index(min(scores))} if scores else set()
            unknown = self._model.get("unk_id")
            found |= set() if unknown is None else {int(unknown)}
        elif (unknown := self._model.get("unk_token")) in ids:
            found.add(ids[unknown])
        found |= {ids[token] for token in self._bytes() if token in ids}
        return found

    def _bytes(self) -> Iterator[str]:
        """Tokens into which any text falls apart."""
        yield from (f"<0x{number:02X}>" for number in range(256))
        byte_level = any(
            piece.get("type") == "ByteLevel" for key in ("pre_tokenizer", "decoder") for piece in self._whole.parts(key)
        )
        if byte_level:
            yield from _alphabet()
        elif self._whole.kind == "BPE" and not self._model.get("byte_fallback") and not self._model.get("unk_token"):
            yield from (token for token in self._whole.ids if len(token) == 1)  # what has no token would vanish

    def parts(self, ident: int) -> set[int]:
        """A token and all that it is put together from."""
        token, ids = self._whole.tokens.get(ident), self._whole.ids
        if token is None or ids.get(token) != ident:
            return {ident}
        if self._whole.kind == "BPE":
            pieces = set(self._merged(token))
        else:
            start = self._model.get("continuing_subword_prefix") or ""
            bare = token.removeprefix(start)
            pieces = {*bare, *(start + one for one in bare), _WORD_START} if self._whole.kind != "WordLevel" else set()
        return {ident} | {ids[piece] for piece in pieces if piece in ids}

    # -- BPE -----------------------------------------------------------------------------------------------------------

    @cached_property
    def merges(self) -> dict[Pair, int]:
        """Rank of every pair that is merged."""
        return {pair_of(entry): rank for rank, entry in enumerate(self._model.get("merges") or ())}

    def joined(self, pair: Pair) -> str:
        """What a pair is merged to."""
        return pair[0] + pair[1].removeprefix(self._model.get("continuing_subword_prefix") or "")

    def _merged(self, token: str) -> Iterator[str]:
        """All pieces that a token is at some time made of."""
        symbols = self._symbols(token)
        yield from symbols
        while len(symbols) > 1:
            ranked = [(self.merges[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in self.merges]
            if not ranked:  # it is only found as a whole word
                return
            _, place = min(ranked)
            symbols[place : place + 2] = [self.joined((symbols[place], symbols[place + 1]))]
            yield symbols[place]

    def _symbols(self, token: str) -> list[str]:
        start = self._model.get("continuing_subword_prefix") or ""
        end = self._model.get("end_of_word_suffix") or ""
        ends = bool(end) and token.endswith(end)
        bare = token.removesuffix(end) if ends else token
        inside = bool(start) and bare.startswith(start)
        symbols = list(bare.removeprefix(start) if inside else bare)
        symbols = [one if not place and not inside else start + one for place, one in enumerate(symbols)]
        if ends and symbols:
            symbols[-1] += end
        return symbols

    # -- WordPiece -----------------------------------------------------------------------------------------------------

    def begun(self, line: str) -> set[int]:
        """The first pieces of the words of a line that no pieces make up."""
        if self._whole.kind != "WordPiece":
            return set()
        library, found = self._whole.library, set[int]()
        for word in self._whole.guarded("cannot encode the text", lambda: _words(library, line)):
            pieces, whole = self._longest(word)
            found |= set() if whole else pieces
        return found

    def _longest(self, word: str) -> tuple[set[int], bool]:
        """The longest pieces from the left, and whether they make up the word."""
        ids, start = self._whole.ids, self._model.get("continuing_subword_prefix") or ""
        if len(word) > int(self._model.get("max_input_chars_per_word") or 100):
            return set(), False
        pieces, place = set[int](), 0
        while place < len(word):
            for end in range(len(word), place, -1):
                piece = (start if place else "") + word[place:end]
                if piece in ids:
                    pieces.add(ids[piece])
                    place = end
                    break
            else:
                return pieces, False
        return pieces, True


def _words(library: Any, line: str) -> list[str]:
    text = line if library.normalizer is None else library.normalizer.normalize_str(line)
    if library.pre_tokenizer is None:
        return [text]
    return [word for word, _ in library.pre_tokenizer.pre_tokenize_str(text)]


def pair_of(entry: Any) -> Pair:
    """A pair that is merged: of a list, or of a text with a space, as older files have it."""
    first, second = entry.split(" ", 1) if isinstance(entry, str) else entry
    return str(first), str(second)


def template_ids(tokenizer: Tokenizer) -> Iterator[int]:
    """Ids that a tokenizer puts around texts, or fills them up with.

    Raises:
        DataError: it does so in a way that is not known.
    """
    padding = tokenizer.data.get("padding")
    if isinstance(padding, dict) and "pad_id" in padding:
        yield int(padding["pad_id"])
    for piece in tokenizer.parts("post_processor"):
        kind = piece.get("type")
        if kind == "TemplateProcessing":
            for entry in (piece.get("special_tokens") or {}).values():
                yield from map(int, entry["ids"])
        elif kind in ("BertProcessing", "RobertaProcessing"):
            yield from (int(piece[key][1]) for key in ("sep", "cls"))
        elif kind not in _NAMELESS:
            raise DataError(f"{tokenizer.place}: its post-processor {kind!r:.40} is not known: its vocabulary stays")


def _alphabet() -> Iterator[str]:
    """The letters that stand for the 256 bytes (GPT-2's)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    yield from map(chr, shown)
    yield from (chr(256 + place) for place in range(256 - len(shown)))

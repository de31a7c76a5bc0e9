"""The tokenizer's files of a folder, where tokens go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bot_onnx._folders.layout import Folder
from bot_onnx._surgery.types import Plan
from bot_onnx._target.reader import read_text
from bot_onnx._vocabulary import TOKENIZER, Tokenizer, cut_tokenizer, id_map, renumbered
from bot_onnx.errors import BotError, SpecError

ID_MAP: Final = "vocabulary_map.json"  #: what a folder says of its ids
GENERATION: Final = "generation_config.json"
_OTHERS: Final = re.compile(r"^(.*\.(model|spm|tiktoken)|vocab\..*|merges\.txt)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes of a folder's files where tokens go.

    Attributes:
        ids: new id by old one. rows: number of old ids.
        texts: of files that are others now, by place. dropped: places of files that do not go along.
        notes: of these, in sentences.
    """

    ids: Mapping[int, int] = field(default_factory=dict)
    rows: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def config(self, told: dict[str, Any], place: str) -> dict[str, Any]:
        """A config with the new ids.

        Raises:
            SpecError: it names a token that goes.
        """
        return renumbered(told, self.ids, self.rows, place) if self.ids else told


def cut_files(folder: Folder, plan: Plan) -> Cut:
    """Cut the vocabulary of a folder as a plan cuts that of the model in it.

    Raises:
        SpecError: there is no tokenizer that can be cut, or a file names a token that goes.
    """
    kept, rows = plan.asked.tokens, plan.source_tokens
    if rows == len(kept):
        return Cut()
    ids = {old: new for new, old in enumerate(kept)}
    places = folder.copied()
    texts = {ID_MAP: id_map(kept, rows)}
    cuts = {place[: -len(TOKENIZER)]: place for place in places if _name(place) == TOKENIZER}
    dropped: set[str] = set()
    for place in places:
        beside = place[: -len(_name(place))]
        if _name(place) == GENERATION:
            told = folder.parsed(place, read_text(folder.path / place))
            texts[place] = _json(renumbered(told, ids, rows, place))
        elif beside in cuts:
            made = _Files(folder, cuts[beside], kept, ids).text(place)
            dropped |= {place} if made == "" else set()
            texts |= {place: made} if made else {}
        elif _OTHERS.match(_name(place)):
            raise SpecError(
                f"{place} is a tokenizer's file, and there is no {TOKENIZER} beside it, which is what is cut: save one "
                "(in transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder))"
            )
    notes = [f"Left out, for it holds the old vocabulary: {', '.join(sorted(dropped))}."] if dropped else []
    notes += [] if cuts else [f"There is no {TOKENIZER}: ids are to be mapped as {ID_MAP} says."]
    return Cut(ids, rows, texts, frozenset(dropped), tuple(notes))


class _Files:
    """The files of one tokenizer."""

    def __init__(self, folder: Folder, place: str, kept: Sequence[int], ids: Mapping[int, int]) -> None:
        self._folder, self._kept, self._ids = folder, kept, ids
        try:
            whole = Tokenizer.parse(read_text(folder.path / place), place)
            self._cut = cut_tokenizer(whole, kept)
        except BotError as error:
            raise SpecError(str(error)) from error

    def text(self, place: str) -> str | None:
        """The new text of one of them: empty where it does not go along, None where it stays as it is."""
        name, path = _name(place), self._folder.path / place
        if name == TOKENIZER:
            return _json(self._cut.data)
        if name == "tokenizer_config.json":
            told = self._folder.parsed(place, read_text(path))
            table = told.get("added_tokens_decoder")
            if not isinstance(table, dict):
                return None
            told["added_tokens_decoder"] = {str(self._new(int(key), place)): entry for key, entry in table.items()}
            return _json(told)
        if name == "added_tokens.json":
            told = self._folder.parsed(place, read_text(path))
            return _json({token: self._new(ident, place) for token, ident in told.items()})
        if name == "vocab.json" and self._cut.kind == "BPE":
            told = self._folder.parsed(place, read_text(path))
            stay = {token: self._ids[ident] for token, ident in told.items() if ident in self._ids}
            return json.dumps(stay, ensure_ascii=False)
        if name == "merges.txt" and self._cut.kind == "BPE":
            pairs = (entry if isinstance(entry, str) else " ".join(entry) for entry in self._cut.model["merges"])
            return "\n".join(["#version: 0.2", *pairs]) + "\n"
        if name == "vocab.txt" and self._cut.kind == "WordPiece":
            lines = read_text(path).split("\n")
            return "\n".join(lines[old].rstrip("\r") for old in self._kept if old < len(lines)) + "\n"
        return "" if _OTHERS.match(name) else None

    def _new(self, ident: int, place: str) -> int:
        if ident not in self._ids:
            raise SpecError(f"{place} names token {ident}, which does not stay; keep it as well")
        return self._ids[ident]


def _name(place: str) -> str:
    return place.rsplit("/", 1)[-1]


def _json(told: Any) -> str:
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"

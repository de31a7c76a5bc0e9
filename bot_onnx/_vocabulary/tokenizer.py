"""A ``tokenizer.json``: what it says of its tokens, and the library that runs it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from bot_onnx._installing import needing
from bot_onnx.errors import DataError

TOKENIZER: Final = "tokenizer.json"
KINDS: Final = ("BPE", "Unigram", "WordLevel", "WordPiece")
T = TypeVar("T")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, as its file tells it.

    Attributes:
        place: of the file, for messages. data: its content.
    """

    place: str
    data: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        """Read a file.

        Raises:
            DataError: it is no tokenizer of a known kind.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as a tokenizer ({error}): give a {TOKENIZER}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, place: str) -> Tokenizer:
        """Read the text of a file.

        Raises:
            DataError: it is no tokenizer of a known kind.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is no JSON ({error}): give the {TOKENIZER} that belongs to the model") from error
        made = cls(place, data if isinstance(data, dict) else {})
        if made.kind not in KINDS or not isinstance(made.model.get("vocab"), dict | list):
            raise DataError(
                f"{place} is no tokenizer whose vocabulary can be cut: its model is {made.kind!r:.40}, and "
                f"{', '.join(KINDS)} are known"
            )
        if made.model.get("dropout"):
            raise DataError(f"{place} drops merges at random (dropout): set it to null, as it is when a model is used")
        return made

    @property
    def model(self) -> dict[str, Any]:
        """What it says of its vocabulary."""
        found = self.data.get("model")
        return found if isinstance(found, dict) else {}

    @property
    def kind(self) -> str:
        """How it cuts words into tokens; old files do not say it."""
        told = self.model.get("type")
        if told is not None:
            return str(told)
        if "merges" in self.model:
            return "BPE"
        if isinstance(self.model.get("vocab"), list):
            return "Unigram"
        return "WordPiece" if "continuing_subword_prefix" in self.model else ""

    @cached_property
    def ids(self) -> dict[str, int]:
        """Ids of the tokens that words are cut into."""
        vocab = self.model["vocab"]
        if isinstance(vocab, dict):
            return {str(token): int(ident) for token, ident in vocab.items()}
        return {str(entry[0]): ident for ident, entry in enumerate(vocab)}

    @cached_property
    def added(self) -> dict[str, int]:
        """Ids of the tokens that are looked for before anything is cut: the special ones above all."""
        return {str(entry["content"]): int(entry["id"]) for entry in self.data.get("added_tokens") or ()}

    @cached_property
    def tokens(self) -> dict[int, str]:
        """Tokens by their ids."""
        return {ident: token for table in (self.ids, self.added) for token, ident in table.items()}

    @cached_property
    def library(self) -> Any:
        """It, ready to run: nothing is cut short or padded.

        Raises:
            MissingRuntimeError: the library is not installed. DataError: it cannot read the file.
        """
        with needing("tokenizers is needed to read text", "vocabulary"):
            maker = importlib.import_module("tokenizers").Tokenizer
        made = self.guarded("cannot be read", lambda: maker.from_str(json.dumps(self.data)))
        made.no_truncation()
        made.no_padding()
        return made

    def encoded(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of lines, with the special tokens around them.

        Raises:
            DataError: the library fails.
        """
        made = self.guarded("cannot encode the text", lambda: self.library.encode_batch(list(lines)))
        return [entry.ids for entry in made]

    def guarded(self, what: str, work: Callable[[], T]) -> T:
        """Say so where the library fails, or panics, which is an exception of no common kind.

        Raises:
            DataError: it did.
        """
        try:
            return work()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            told = " ".join(str(error).split())[:200]
            raise DataError(f"{self.place} {what}: {told}; give the {TOKENIZER} that belongs to the model") from error

    def parts(self, key: str) -> Iterator[dict[str, Any]]:
        """The normalizer, pre-tokenizer, post-processor or decoder, piece by piece where it is a sequence."""
        yield from _pieces(self.data.get(key))


def _pieces(told: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(told, dict):
        return
    yield told
    for inner in (value for value in told.values() if isinstance(value, list)):
        for entry in inner:
            if isinstance(entry, dict) and "type" in entry:
                yield from _pieces(entry)

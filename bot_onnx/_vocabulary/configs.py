"""Ids of tokens that configs name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bot_onnx.errors import SpecError

_ONE: Final = re.compile(r"_token_(id|ids|index)$")
#: Tokens that are never to come out: those that are gone do not.
_BARRED: Final = ("suppress_tokens", "begin_suppress_tokens")
_BY_NAME: Final = ("lang_to_id", "task_to_id")
_PAIRS: Final = "forced_decoder_ids"
_ROWS: Final = "bad_words_ids"
#: Keys that name tokens in a way that is not known well enough.
_REFUSED: Final = ("sequence_bias", "force_words_ids", "constraints")


def named_ids(config: Mapping[str, Any]) -> set[int]:
    """Ids of tokens that a config cannot do without."""
    return {ident for ident in _named(config) if ident >= 0}


def _named(config: Mapping[str, Any]) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from (filter(_is_id, value.values()) if key in _BY_NAME else _named(value))
        elif _ONE.search(key):
            yield from filter(_is_id, value if isinstance(value, list) else [value])
        elif key == _PAIRS and isinstance(value, list):
            yield from (pair[1] for pair in value if isinstance(pair, list) and _is_id(pair[-1]))


def renumbered(config: Mapping[str, Any], new: Mapping[int, int], rows: int, where: str) -> dict[str, Any]:
    """A config with the new ids.

    Args:
        config: it. new: new ids by old ones. rows: number of old ids; a larger one is no token's, and stays.
        where: its place, for messages.

    Raises:
        SpecError: it names a token that does not stay.
    """

    def one(ident: Any, key: str) -> Any:
        if not _is_id(ident) or not 0 <= ident < rows:
            return ident
        if ident not in new:
            raise SpecError(f"{where}: '{key}' names token {ident}, which does not stay; keep it as well")
        return new[ident]

    def stays(ident: Any) -> bool:
        return not _is_id(ident) or ident not in range(rows) or ident in new

    made: dict[str, Any] = {}
    for key, value in config.items():
        if key in _REFUSED and value:
            raise SpecError(f"{where}: '{key}' names tokens, and how it follows a cut is not known: take it out")
        if isinstance(value, Mapping):
            inner = {name: one(ident, key) for name, ident in value.items()} if key in _BY_NAME else None
            made[key] = renumbered(value, new, rows, where) if inner is None else inner
        elif _ONE.search(key):
            made[key] = [one(entry, key) for entry in value] if isinstance(value, list) else one(value, key)
        elif key in _BARRED and isinstance(value, list):
            made[key] = [one(ident, key) for ident in value if stays(ident)]
        elif key == _PAIRS and isinstance(value, list):
            made[key] = [[*pair[:-1], one(pair[-1], key)] for pair in value]
        elif key == _ROWS and isinstance(value, list):
            made[key] = [[one(ident, key) for ident in row] for row in value if all(map(stays, row))]
        else:
            made[key] = value
    return made


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

"""Lists of ids as files: those that are given, and the map that is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bot_onnx.errors import DataError


def read_ids(path: Path) -> tuple[int, ...]:
    """Ids of tokens: of a JSON list, of an object with it under ``keep`` or ``old_ids``, or one a line.

    Returns:
        In ascending order, each once.

    Raises:
        DataError: it holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of ids ({error})") from error
    if text.lstrip()[:1] in ("[", "{"):
        return _of_json(path, text)
    found: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        told = line.split("#", 1)[0].strip()
        if told and not (told.isascii() and told.isdigit()):
            raise DataError(f"{path}, line {number}: {told!r:.40} is no id of a token; give a whole number a line")
        found += [int(told)] if told else []
    return _sorted(path, found)


def _of_json(path: Path, text: str) -> tuple[int, ...]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}): give a list of ids") from error
    if isinstance(told, dict):
        told = told.get("keep", told.get("old_ids"))
    if not isinstance(told, list) or not all(type(entry) is int and entry >= 0 for entry in told):
        raise DataError(f'{path} is no list of ids: give [0, 5, 7], or {{"keep": [0, 5, 7]}}')
    return _sorted(path, told)


def _sorted(path: Path, found: Sequence[int]) -> tuple[int, ...]:
    if not found:
        raise DataError(f"{path} lists no ids: give at least one")
    return tuple(sorted(set(found)))


def id_map(kept: Sequence[int], rows: int) -> str:
    """The text of the map: by new id the old one.

    Args:
        kept: ids that stay, in order. rows: number of ids before.
    """
    return json.dumps({"source_rows": rows, "rows": len(kept), "old_ids": list(kept)}) + "\n"

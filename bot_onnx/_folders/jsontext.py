"""Single values of a JSON text exchanged, all else kept byte for byte: order, spaces, how numbers are spelled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Path = tuple[str | int, ...]  #: keys and indices from the top
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SCALAR: Final = re.compile(r"[^\s,\]}]+")
_DECODER: Final = json.JSONDecoder()


def rewritten(text: str, before: Any, after: Any) -> str:
    """Write the differences between two values of the same text into it.

    Args:
        text: valid JSON. before: what it says.
        after: what it shall say: other scalars, other lists, or more keys at the end of an object.
    """
    places = dict(_places(text, 0, ()))
    edits: list[tuple[int, int, str]] = []
    for path, old, new in _differences(before, after, ()):
        start, end = places[path]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            added = {key: value for key, value in new.items() if key not in old}
            edits.append((*_end_of(text, start, end), _entries(text, start, added, bool(old))))
        else:
            edits.append((start, end, json.dumps(new, ensure_ascii=False)))
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + value + text[end:]
    return text


def _differences(before: Any, after: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in before:
            yield from _differences(before[key], after[key], (*path, key))
        if after.keys() - before.keys():
            yield path, before, after
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differences(old, new, (*path, index))
    elif before != after or type(before) is not type(after):
        yield path, before, after


def _places(text: str, position: int, path: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Start and end of every value, the one at ``position`` last."""
    start = _space(text, position)
    if text[start] == "{" or text[start] == "[":
        at, closing, count = _space(text, start + 1), "}" if text[start] == "{" else "]", 0
        while text[at] != closing:
            key: str | int = count
            if closing == "}":
                key, at = _DECODER.raw_decode(text, at)
                at = _space(text, at) + 1  # the colon
            inner = (at, at)
            for place, inner in _places(text, at, (*path, key)):
                yield place, inner
            at = _space(text, inner[1])
            at = _space(text, at + 1) if text[at] == "," else at
            count += 1
        yield path, (start, at + 1)
    elif text[start] == '"':
        yield path, (start, _DECODER.raw_decode(text, start)[1])
    else:
        found = _SCALAR.match(text, start)
        assert found is not None  # the text is valid
        yield path, (start, found.end())


def _space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()


def _end_of(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the last entry of an object ends."""
    at = start + 1 + len(text[start + 1 : end - 1].rstrip())
    return at, at


def _entries(text: str, start: int, added: Mapping[str, Any], more: bool) -> str:
    """Entries for the end of the object that starts at ``start``, on lines of their own where the others are."""
    after = _SPACE.match(text, start + 1)
    between = after.group() if after is not None and more else ""
    told = (f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value)}" for key, value in added.items())
    joined = f",{between or ' '}".join(told)
    return f",{between or ' '}{joined}" if more else joined

"""Wording shared by the spec's errors: suggestions, places, sizes that would do, pydantic's findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from bot_onnx._structure import Dim

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known word closest to ``word``, or an empty string."""
    close = suggested(word, known)
    return f"; did you mean '{close[0]}'?" if close else ""


def suggested(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known word closest to ``word``, where one is close."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    return tuple(by_lower[near] for near in difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5))


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Join names with commas, at most ``limit`` of them, then how many were left out."""
    every = list(names)
    shown = ", ".join(every[:limit])
    return shown if len(every) <= limit else f"{shown} and {len(every) - limit} more"


def place(dim: Dim) -> str:
    """Say which dim: its name, id, source size and the first tensor axis that has it."""
    if dim.occurrences:
        tensor, axis = dim.occurrences[0]
        where = f"first at tensor '{tensor}' axis {axis}"
    else:
        where = "on activations only"
    return f"'{dim.name}' ({dim.id}, size {dim.size}, {where})"


def nearest(size: int, step: int, offset: int = 0) -> str:
    """Name the positive sizes of the form ``offset + n * step`` (n >= 1) around ``size``."""
    return " or ".join(map(str, nearest_sizes(size, step, offset)))


def nearest_sizes(size: int, step: int, offset: int = 0) -> tuple[int, ...]:
    """The positive sizes of the form ``offset + n * step`` (n >= 1) around ``size``."""
    below = max((size - offset) // step, 0)
    return tuple(offset + n * step for n in (below, below + 1) if n >= 1)


def key_path(location: Sequence[int | str]) -> str:
    """Write a pydantic location as a key: ``('dims', 'hidden_2')`` becomes ``dims.hidden_2``, items ``layers[1]``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


#: What pydantic puts behind a key whose value has several forms, to say which of them was tried.
ONE_SIZE: Final = "<size>"
BY_CHAIN: Final = "<by chain>"

_WAYS_OUT: Final = {
    "int_type": "give a whole number without quotes",
    "int_from_float": "give a whole number",
    "greater_than": "give a number above 0",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "string_type": "give a text in quotes",
    "string_too_short": "give at least one character, or drop the key",
    "dict_type": "give an object with names and values",
    "tuple_type": "give a list",
    "model_type": "give an object with names and values",
    "literal_error": "give one of those, or drop it",
    "less_than_equal": "give a smaller number",
}


def _sentence(finding: ErrorDetails, known: Sequence[str], nested: Mapping[str, Sequence[str]]) -> str:
    location = finding["loc"]
    if finding["type"] == "extra_forbidden":
        word = str(location[-1])
        names = nested.get(str(location[0]), known) if len(location) > 1 else known
        inside = f" in '{key_path(location[:-1])}'" if len(location) > 1 else ""
        hint = suggestion(word, names)
        return f"key '{word}'{inside} is not known{hint or '.'} Known keys: {', '.join(names)}"
    key = f"key '{key_path(location)}'" if location else "the spec"
    if finding["type"] == "value_error":
        return f"{key}: {finding['ctx']['error']}"
    _, should, told = finding["msg"].partition(" should ")  # behind "Input", "String", "Dictionary"
    reason = told if should else f"be {finding['msg']}"
    way = _WAYS_OUT.get(finding["type"], "correct it or drop the key")
    return f"{key} must {reason}, not {finding['input']!r:.80}: {way}"


def explain(error: ValidationError, where: str, known: Sequence[str], nested: Mapping[str, Sequence[str]]) -> str:
    """Turn pydantic's findings into one message for a person.

    Args:
        error: what pydantic raised.
        where: file, library name or "command line" the values came from.
        known: the top-level keys, for suggestions.
        nested: the keys of nested objects by their top-level key.
    """
    findings = error.errors(include_url=False)
    for finding in findings:  # which of the forms of a value was tried is not part of its place
        finding["loc"] = tuple(
            part for i, part in enumerate(finding["loc"]) if i != 1 or part not in (ONE_SIZE, BY_CHAIN)
        )
    first = _sentence(findings[0], known, nested)
    others = sorted({key_path(finding["loc"]) for finding in findings[1:]} - {key_path(findings[0]["loc"])})
    more = f" (also wrong: {', '.join(others)})" if others else ""
    return f"{where}: {first}{more}"

"""Texts from the command line that stand for a spec's structured values: ``--layers`` and ``NAME=VALUE`` pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bot_onnx._target.reader import parse_object
from bot_onnx.errors import SpecError


def _number(text: str, flag: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SpecError(f"{flag}: '{text}' is not a whole number.") from None


def parse_assignments(pairs: Iterable[str], flag: str) -> dict[str, str]:
    """Split ``NAME=VALUE`` texts at their last ``=`` (node names may contain one).

    Raises:
        SpecError: a text without a name or value, or a name given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.rpartition("=")
        name, value = name.strip(), value.strip()
        if not name or not value:
            raise SpecError(f"{flag}: '{pair}' is not of the form NAME=VALUE.")
        if name in found:
            raise SpecError(f"{flag}: '{name}' is given twice; keep one of them.")
        found[name] = value
    return found


def parse_layers(text: str) -> int | list[int] | dict[str, Any]:
    """Read ``6``, ``2,2,6,2`` (in graph order), ``encoder=6,decoder=4``, or an object as in a spec file.

    Raises:
        SpecError: none of these forms.
    """
    if text.lstrip().startswith("{"):
        return parse_object(text, "--layers")
    items = [item.strip() for item in text.split(",")]
    if "=" in text:
        pairs = parse_assignments(items, "--layers")
        return {name: _number(value, "--layers") for name, value in pairs.items()}
    numbers = [_number(item, "--layers") for item in items]
    return numbers[0] if len(numbers) == 1 else numbers

"""Strict reading of a JSON object from a file: every failure is a SpecError with its place."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

from bot_onnx.errors import SpecError

#: A spec or a HuggingFace config has some kilobytes; anything above this is another kind of file.
MAX_BYTES = 16 * 1024 * 1024


def read_text(path: Path) -> str:
    """Read a UTF-8 file of at most :data:`MAX_BYTES`; pipes and devices, which may never end, are no files.

    Raises:
        SpecError: the file is missing, unreadable, too large, or not text.
    """
    try:
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise SpecError(f"{path}: the spec cannot be read (not a regular file); give a JSON spec or a config.json.")
        if size > MAX_BYTES:
            raise SpecError(f"{path}: {size} bytes are too many for a spec; is this the model? Give the JSON file.")
        with open(path, "rb") as stream:
            return stream.read(MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(f"{path}: the spec cannot be read ({reason}); check the path.") from error
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path}: not a text file (byte {error.start} is not UTF-8); give a JSON spec or a config.json."
        ) from error


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object, refusing repeated keys and NaN / Infinity.

    Args:
        text: the JSON.
        where: file or library name, for messages.

    Raises:
        SpecError: the text is no JSON (with line and column), no object, or has text that is none.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise SpecError(f"{where}: key '{key}' stands twice in one object; keep one of them.")
            found[key] = value
        return found

    def no_constant(name: str) -> NoReturn:
        raise SpecError(f"{where}: {name} is not a JSON number; give a finite number.")

    try:
        data = json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise SpecError(
            f"{where}: not valid JSON at line {error.lineno} column {error.colno}: {error.msg}; correct it there."
        ) from error
    except (RecursionError, ValueError) as error:
        raise SpecError(f"{where}: the JSON cannot be read ({error}); a spec is a flat object of keys.") from error
    if _has_surrogates(data):
        raise SpecError(f"{where}: a text in it has half of a character (\\ud800 to \\udfff); write the whole one.")
    if not isinstance(data, dict):
        raise SpecError(f'{where}: a spec is a JSON object such as {{"hidden": 384}}, not a {type(data).__name__}.')
    return data


def _has_surrogates(data: Any) -> bool:
    """Whether a text in JSON data cannot be encoded: half of a surrogate pair."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False

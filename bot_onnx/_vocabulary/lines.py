"""Text, line by line, however long it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bot_onnx.errors import DataError


def text_lines(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Lines of UTF-8 texts that are not empty, one after the other, with the place of each (``file, line 3``).

    Raises:
        DataError: a file cannot be read, or a line is no UTF-8.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    if line := _decoded(raw, path, number).strip():
                        yield line, f"{path}, line {number}"
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): give a text, a line a sample") from error


def _decoded(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number} is no UTF-8 ({error.reason}): save it so") from error

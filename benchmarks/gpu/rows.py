"""Rows of figures in a file that is whole after every one of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def add_row(path: Path, row: dict[str, Any]) -> None:
    """One more row."""
    rows = read_rows(path) if path.is_file() else []
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps([*rows, row], indent=1) + "\n")
    os.replace(part, path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows so far; none where there is no file yet."""
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return found

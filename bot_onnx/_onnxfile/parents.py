"""Folders above an output that are missing: made for it, and gone again where nothing came of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_parents(target: Path) -> list[Path]:
    """Make the folders above a file or folder to be; give those that were missing, the innermost first.

    Raises:
        OSError: the system refuses.
    """
    missing: list[Path] = []
    folder = target.absolute().parent
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.insert(0, path)
    except BaseException:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders that hold nothing; the innermost come first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    folder = folder.absolute()
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder

"""The table of a training's course: a row every some steps, readable whenever the process ends."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from bot_onnx._onnxfile.read_only import is_same
from bot_onnx._onnxfile.writer import check_output
from bot_onnx.errors import OutputError

COLUMNS = ("step", "loss", "validation_loss", "learning_rate", "seconds")
_HEADER = (",".join(COLUMNS) + "\n").encode()


class Teller(Protocol):
    """What is told of every step."""

    def row(self, step: int, last: bool, values: Mapping[str, float | None]) -> None:
        """Take up a step; see :meth:`Log.row`."""


class Log:
    """A CSV file that grows by a row (columns: :data:`COLUMNS`; ``seconds`` since the start, breaks left out).

    Args:
        path: of the file.
        every: steps between two rows.
        done: steps that are behind, whose rows stay; 0: the file starts anew.

    Raises:
        OutputError: the file is there and no such table, or cannot be written.
    """

    def __init__(self, path: Path, every: int, done: int) -> None:
        self.path, self._every = path, every
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            known = path.read_bytes() if path.exists() else b""
            if known and not known.startswith(_HEADER):
                raise OutputError(f"{path} exists and is no log of a training: choose another file")
            kept, seconds = _kept(known, done)
            with path.open("ab") as file:
                file.truncate(kept)  # what is kept is never written again, so that no moment is without it
                file.write(b"" if kept else _HEADER)
        except OSError as error:
            raise self._unwritable(error) from error
        self._started = time.monotonic() - seconds

    def row(self, step: int, last: bool, values: Mapping[str, float | None]) -> None:
        """Add the row of a step, if it is one that gets a row: the last one and validated ones do.

        Args:
            step: number of steps done.
            last: there will be no other.
            values: by column, but for ``step`` and ``seconds``.

        Raises:
            OutputError: the file cannot be written.
        """
        if not is_due(step, self._every, last, values):
            return
        row: dict[str, Any] = {"step": step, **values, "seconds": round(time.monotonic() - self._started, 3)}
        line = ",".join("" if row.get(name) is None else repr(row[name]) for name in COLUMNS) + "\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(file, line.encode())  # at once: a kill leaves all of it or nothing
            finally:
                os.close(file)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write the log {self.path}: {error.strerror or error}")


def is_due(step: int, every: int, last: bool, values: Mapping[str, float | None]) -> bool:
    """Whether a step is told: every so many steps, after the last one, and where the loss was measured held out."""
    return step % every == 0 or last or values.get("validation_loss") is not None


def check_log(path: Path, written: Sequence[Path], read: Sequence[str | PathLike[str]]) -> None:
    """Refuse the path of a log that cannot be written, or is another file of the training.

    Args:
        path: of the log. written: paths that the training writes to. read: files that it reads.

    Raises:
        OutputError: it is one of them, or no file can be there.
    """
    check_output(path, force=True, sources=read)
    if any(is_same(path, other) for other in written):
        raise OutputError(f"{path} is written by the training itself: choose another file for the log")


def _kept(known: bytes, done: int) -> tuple[int, float]:
    """Bytes of a table up to the row of step ``done``, and the seconds of that row."""
    kept, seconds = 0, 0.0
    if not done or not known:
        return kept, seconds
    for line in known.splitlines(keepends=True):
        cells = line.decode(errors="replace").rstrip("\n").split(",")
        if kept:  # behind the header
            try:
                step, passed = int(cells[0]), float(cells[-1])
            except ValueError:
                break
            if step > done or len(cells) != len(COLUMNS) or not line.endswith(b"\n"):
                break
            seconds = passed
        kept += len(line)
    return kept, seconds

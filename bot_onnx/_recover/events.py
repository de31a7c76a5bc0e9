"""The course of a training as TensorBoard shows it: event files in a folder, beside or instead of the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bot_onnx._recover.extras import summary_writer
from bot_onnx._recover.log import is_due
from bot_onnx.errors import OutputError


class Events:
    """Scalars by step; every run adds a file to the folder, and takes the place of what is behind its first step.

    Args:
        folder: of the files; what else lies there stays.
        every: steps between two points.
        done: steps that are behind; 0: the curves start anew.

    Raises:
        OutputError: the files cannot be written.
        MissingRuntimeError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, every: int, done: int) -> None:
        self._folder, self._every = folder, every
        make = summary_writer()
        try:
            # TensorBoard hides what earlier files say of steps from this one on.
            self._writer = make(str(folder), purge_step=done + 1)
        except OSError as error:
            raise self._unwritable(error) from error

    def row(self, step: int, last: bool, values: Mapping[str, float | None]) -> None:
        """Add the points of a step, if it is one that gets any, as in :meth:`bot_onnx._recover.log.Log.row`.

        Args:
            step: number of steps done.
            last: there will be no other.
            values: by name of the curve; None: no point.

        Raises:
            OutputError: the files cannot be written.
        """
        if not is_due(step, self._every, last, values):
            return
        try:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Let the file go."""
        self._writer.close()

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write the event files in {self._folder}: {error.strerror or error}")


def check_events(folder: Path) -> None:
    """Refuse a folder of event files before anything is read.

    Raises:
        OutputError: a file has that name.
        MissingRuntimeError: TensorBoard is not installed.
    """
    summary_writer()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and TensorBoard reads folders: choose another name")

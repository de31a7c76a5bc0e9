"""Where output goes: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.failures import named_stdout, note_json
from bot_onnx._ended import StartingThread
from bot_onnx._progress import told

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

PIPE_WIDTH = 160
PATIENCE = 1.0  # seconds of silence before a progress bar appears


def show(renderable: RenderableType) -> None:
    """Print a result: as wide as the terminal, or 160 columns (or ``COLUMNS``) where there is none."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:  # rich would end the process
            raise BrokenPipeError

    wide = not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit()
    console = Piped(file=sys.stdout, width=PIPE_WIDTH if wide else None, highlight=False, markup=False, emoji=False)
    with named_stdout():
        console.print(renderable)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    text = json.dumps(value, indent=2, allow_nan=False)
    note_json()
    with named_stdout():
        click.echo(text)


class Activity:
    """A progress bar on stderr that appears when the work takes longer than a second.

    Until the first call of :meth:`update` it shows only that something is going on.
    """

    def __init__(self, doing: str, *, counted: bool = False) -> None:
        """Prepare, without showing anything.

        Args:
            doing: what is going on, such as ``analysing model.onnx``.
            counted: progress is counted in steps, and the time that is left is shown; else it is bytes.
        """
        self._amount = _count if counted else _amount
        self._counted = counted
        self._lock = threading.Lock()
        self._state: tuple[str, int, int | None] = (doing, 0, None)
        self._bar: tuple[Progress, TaskID] | None = None
        self._timer = threading.Timer(PATIENCE, self._appear)
        self._timer.daemon = True
        self._done = False

    def start(self) -> None:
        """Start to count the second."""
        with StartingThread():  # else there is no bar
            self._timer.start()

    def stop(self) -> None:
        """Remove the bar, if there is one."""
        self._timer.cancel()
        with self._lock:
            self._done = True
            if self._bar is not None:
                self._bar[0].stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """Say how far the work is: what it is at, bytes (or steps) done and in all."""
        with self._lock:
            self._state = (stage, done, total)
            if self._bar is not None:
                bar, task = self._bar
                bar.update(
                    task,
                    description=_short(stage),
                    completed=done,
                    total=total or None,
                    amount=self._amount(done, total),
                )

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        with self._lock:
            if self._done:
                return
            bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeElapsedColumn(),
                *([TextColumn("left"), TimeRemainingColumn()] if self._counted else []),
                console=Console(file=sys.stderr, markup=False),
                transient=True,
                redirect_stdout=False,
            )
            stage, done, total = self._state
            task = bar.add_task(_short(stage), completed=done, total=total or None, amount=self._amount(done, total))
            bar.start()
            self._bar = (bar, task)


def _amount(done: int, total: int | None) -> str:
    from bot_onnx._report.units import size

    return f"{size(done)} of {size(total)}" if total else ""


def _count(done: int, total: int | None) -> str:
    return f"{done:,} of {total:,} steps" if total else ""


def _short(text: str, limit: int = 32) -> str:
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


@contextmanager
def activity(doing: str, *, silent: bool = False, counted: bool = False) -> Iterator[Activity | None]:
    """Show progress while the block runs: only on a terminal, and not where ``silent``.

    The bar follows the stages that :mod:`bot_onnx._progress` tells of.

    Args:
        doing: what is going on.
        silent: show nothing.
        counted: see :class:`Activity`.

    Yields:
        The bar, or None if there is none to be shown.
    """
    if silent or not sys.stderr.isatty():
        yield None
        return
    bar = Activity(doing, counted=counted)
    bar.start()
    try:
        with told(bar.update):
            yield bar
    finally:
        bar.stop()

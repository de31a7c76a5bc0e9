"""Where the work is: one line of the log ``bot_onnx`` for every stage, and a call for who waits.

Whoever starts long work says whom to tell (:func:`told`); whatever does it says what it is at (:func:`stage`), however
deep it lies, and needs nothing handed down to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: Called with (what, done, in all): bytes or steps; 0 of 0 where they are not counted.
Progress = Callable[[str, int, int], None]

LOGGER: Final = logging.getLogger("bot_onnx")
LOGGER.addHandler(logging.NullHandler())  # silent unless the program asks for it

_listener: ContextVar[Progress | None] = ContextVar("bot_onnx_progress", default=None)


@contextmanager
def told(progress: Progress | None) -> Iterator[None]:
    """Tell ``progress`` of the stages of the block; None: whoever is told already."""
    if progress is None:
        yield
        return
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def stage(what: str) -> None:
    """Say that a stage begins, for the log (``INFO``) and for who is told."""
    LOGGER.info(what)
    step(what, 0, 0)


def step(what: str, done: int, total: int) -> None:
    """Say how far a stage is; counted steps stay out of the log."""
    progress = _listener.get()
    if progress is not None:
        progress(what, done, total)

"""Files that what is going on reads: nothing that is written meanwhile may replace them.

Whoever starts the work says what it reads (:func:`reading`; a command: all that its arguments name). What writes,
however deep it lies, asks (:func:`refuse_source`), and needs nothing handed down to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from bot_onnx.errors import OutputError

StrPath = str | os.PathLike[str]

_read: ContextVar[tuple[Callable[[], tuple[Path, ...]], ...]] = ContextVar("bot_onnx_read", default=())


@contextmanager
def reading(files: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """Let nothing that the block writes replace these files.

    Args:
        files: gives them; called once, and only where something is there that could be replaced.
    """
    token = _read.set((*_read.get(), cache(lambda: tuple(files()))))
    try:
        yield
    finally:
        _read.reset(token)


def source_of(path: StrPath, also: Sequence[StrPath] = ()) -> StrPath | None:
    """What is read and stands at a path, under whatever name or link; None: nothing.

    Args:
        path: of a file that is to be written. also: more files that are read.
    """
    if not os.path.isfile(path):  # of folders each file is looked at when it is written
        return None
    there = (source for source in (*also, *_sources()) if os.path.exists(source))
    return next((source for source in there if os.path.samefile(path, source)), None)


def refuse_source(path: StrPath, also: Sequence[StrPath] = ()) -> None:
    """Refuse to write over what is read; see :func:`source_of`.

    Raises:
        OutputError: it is read.
    """
    if (source := source_of(path, also)) is not None:
        raise OutputError(
            f"{path} is a source of this command ({source}), which is never written to: choose another name"
        )


def source_in(folder: Path) -> Path | None:
    """A file that is read and lies in a folder, which is to be replaced as a whole; None: there is none."""
    real = os.path.realpath(folder)
    return next((source for source in _sources() if Path(os.path.realpath(source)).is_relative_to(real)), None)


def is_same(one: StrPath, other: StrPath) -> bool:
    """Whether two paths lead to one file, which need not be there yet."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _sources() -> Iterator[Path]:
    return (file for files in _read.get() for file in files())

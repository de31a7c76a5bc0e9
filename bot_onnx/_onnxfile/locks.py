"""Locks that the system drops when their holder is gone, however it ended: the sign of life of a running write.

``flock`` where there is one, else Windows' locks of byte ranges. A process number would prove less: numbers are used
again, differ between containers, and cannot be asked after on every system without sending a signal.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
_BEYOND: Final = 1 << 16  # Windows locks from the position on, and nobody else may read what is locked
_PATIENCE: Final = 10.0  # seconds; a folder is locked for as long as some names change


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl: Any = _module("fcntl")
msvcrt: Any = _module("msvcrt")


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting; closing it lets go.

    Returns:
        Whether it is ours now; None where the system or the file system has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(descriptor, _BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            return None
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no other run change names in the folder meanwhile; without effect where folders cannot be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows does not open folders
        yield
        return
    try:
        end = time.monotonic() + _PATIENCE
        while try_lock(descriptor) is False and time.monotonic() < end:
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)

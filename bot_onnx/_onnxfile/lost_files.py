"""A file that becomes shorter while it is mapped, for who calls from Python: an error, not the end of the process.

Weights are read, not mapped, wherever one tensor after the other will do. What runs a whole model maps its files
(onnxruntime does so by itself), and touching a map beyond the end of its file raises SIGBUS. Here the handler puts a
page of zeros where the file's is gone, and notes it: the instruction then goes on, and the call that is under way ends
in an error, whatever it has computed from the zeros. A signal that is about anything else goes to whoever had it
before.

On Linux alone, where ``/proc/self/maps`` tells whose page it is; elsewhere a map that loses its file is what it was.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from bot_onnx._progress import Progress, told
from bot_onnx.errors import GraphError

T = TypeVar("T")

_ADDRESS_AT: Final = 16  # in a siginfo_t, on 64 bits
_SA_SIGINFO: Final = 4
_FIXED: Final = 0x10  # MAP_FIXED, which mmap does not name
_Handler: Any = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

_open: Final[Counter[str]] = Counter()  # real paths of files that are being read
_lock: Final = threading.RLock()
_guards: Final[list[_Guard]] = []


class _Action(ctypes.Structure):
    """``struct sigaction`` of glibc and musl on 64 bits."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _Guard:
    """The handler, as long as it is in place.

    Attributes:
        lost: the first file of which a page was gone.
    """

    def __init__(self) -> None:
        self.lost: str | None = None
        self._library = ctypes.CDLL(None, use_errno=True)
        self._library.mmap.restype = ctypes.c_void_p
        self._library.mmap.argtypes = (
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
        )  # fmt: skip
        self._function = _Handler(self._mend)  # what C calls must stay
        self._before = _Action()
        own = _Action(ctypes.cast(self._function, ctypes.c_void_p).value, flags=_SA_SIGINFO)
        self._library.sigaction(int(signal.SIGBUS), ctypes.byref(own), ctypes.byref(self._before))

    def remove(self) -> None:
        """Give the signal back to whoever had it."""
        self._library.sigaction(int(signal.SIGBUS), ctypes.byref(self._before), None)

    def _mend(self, number: int, info: int, context: int) -> None:
        address = ctypes.c_size_t.from_address(info + _ADDRESS_AT).value
        page = address - address % mmap.PAGESIZE
        name = _mapped_at(address)
        if name == "":  # another thread was at it as well, and first
            return
        access = mmap.PROT_READ | mmap.PROT_WRITE
        zeros = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED
        if name is None or self._library.mmap(page, mmap.PAGESIZE, access, zeros, -1, 0) != page:
            self.remove()  # the instruction comes again, and the signal with it
            return
        self.lost = self.lost or name


def _mapped_at(address: int) -> str | None:
    """The file whose map holds an address, if it is one of those that are being read here; empty: none has one."""
    with open("/proc/self/maps", "rb", buffering=0) as maps:
        lines = maps.readall().splitlines()
    for line in lines:
        span, *_, rest = (*line.split(None, 5), b"")[:6]
        start, _, end = span.partition(b"-")
        if int(start, 16) <= address < int(end, 16):
            name = os.fsdecode(rest).removesuffix(" (deleted)")
            return name if not name or _open.get(name) else None
    return None


def note_open(path: Path) -> None:
    """Say that a file is being read, and may be mapped."""
    with _lock:
        _open[os.fspath(path)] += 1


def note_closed(path: Path) -> None:
    """Take one :func:`note_open` back."""
    with _lock:
        _open[os.fspath(path)] -= 1
        if _open[os.fspath(path)] <= 0:
            del _open[os.fspath(path)]


@contextmanager
def surviving() -> Iterator[None]:
    """Let nothing in the block end the process because a file that it reads becomes shorter.

    Raises:
        GraphError: one did: what the block has computed is worth nothing.
    """
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        yield
        return
    with _lock:
        guard = _guards[-1] if _guards else _Guard()
        _guards.append(guard)
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    finally:
        with _lock:
            _guards.pop()
            if not _guards:
                guard.remove()
    if guard.lost is not None:
        raise GraphError(
            f"{guard.lost} became shorter while it was read: leave it alone during the run, and try again"
        ) from failure
    if failure is not None:
        raise failure


@surviving()
def run_told(progress: Progress | None, work: Callable[[], T]) -> T:
    """Do what a caller asked for, telling him how far it is.

    Raises:
        GraphError: a file that is read became shorter meanwhile. All else comes from the work.
    """
    with told(progress):
        return work()

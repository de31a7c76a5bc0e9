"""A file that becomes shorter while it is mapped: the last resort.

Weights are read, not mapped, wherever one tensor after the other will do, and a file that has become shorter is then
an ordinary error. What runs a whole model maps its files (onnxruntime does so by itself), and touching a map beyond the
end of its file raises SIGBUS, which ends a process without a word. No Python code can go on from there: the instruction
would only be repeated. So the handler is called by the C library itself, says what happened and leaves; files without a
name are gone then, and folders of unfinished files go with the next run.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any, Final

_MESSAGE: Final = (
    b"error: a file became shorter while it was read: leave the models alone during the run, and try again; "
    b"no output was written\n"
)
_kept: list[Any] = []  # what C calls must stay


def explain_lost_pages() -> None:
    """Turn SIGBUS into one line on stderr and exit code 1; without effect where there is no such signal."""
    number = getattr(signal, "SIGBUS", None)
    if number is None or _kept:
        return
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_leave)
        library = ctypes.CDLL(None)
        library.signal.restype = ctypes.c_void_p
        library.signal.argtypes = (ctypes.c_int, type(handler))
        library.signal(int(number), handler)
        _kept.append(handler)


def _leave(number: int) -> None:
    with suppress(OSError):
        os.write(2, _MESSAGE)
    os._exit(1)

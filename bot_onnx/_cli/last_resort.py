"""What ends a process without a word, put into words: the last resort.

* A file that becomes shorter while it is mapped. Weights are read, not mapped, wherever one tensor after the other will
  do, and a file that has become shorter is then an ordinary error. What runs a whole model maps its files (onnxruntime
  does so by itself), and touching a map beyond the end of its file raises SIGBUS.
* A model that breaks the runtime: onnxruntime aborts, for one, where the body of a Scan makes values of another rank
  than the file declares.

No Python code can go on from there. So the handler is called by the C library itself, says what happened and leaves;
files without a name are gone then, and folders of unfinished files go with the next run.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any, Final

_SHORTER: Final = (
    "a file became shorter while it was read: leave the models alone during the run, and try again; "
    "no output was written"
)
_BROKEN: Final = (
    "the program was stopped in the middle of its work ({}), most likely by onnxruntime, which this model breaks: "
    "see that it runs elsewhere, and export it again; no output was written"
)
_MESSAGES: Final = {"SIGBUS": _SHORTER} | {
    name: _BROKEN.format(name) for name in ("SIGABRT", "SIGSEGV", "SIGFPE", "SIGILL")
}
_kept: list[Any] = []  # what C calls must stay
_told: dict[int, bytes] = {}
_json: dict[int, bytes] = {}  # the same as JSON, where that is asked for
_REFUSED: Final = 1
_CRASH: Final = 4


def explain_crashes() -> None:
    """Turn signals that end a process into one line on stderr and an exit code; those that a system lacks are left.

    The code is 1 where a file became shorter, else 4.
    """
    if _kept:
        return
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_leave)
        library = ctypes.CDLL(None)
        library.signal.restype = ctypes.c_void_p
        library.signal.argtypes = (ctypes.c_int, type(handler))
        _kept.append(handler)
        for name, message in _MESSAGES.items():
            number = getattr(signal, name, None)
            if number is not None:
                _told[int(number)] = f"error: {message}\n".encode()
                library.signal(int(number), handler)


def crash_as_json() -> None:
    """Let the signals also be told as JSON on stdout."""
    from bot_onnx._cli.failures import error_json

    for name, message in _MESSAGES.items():
        number = getattr(signal, name, None)
        if number is not None:
            kind = "graph" if message is _SHORTER else "crash"
            _json[int(number)] = f"{json.dumps(error_json(kind, message), indent=2)}\n".encode()


def _leave(number: int) -> None:
    with suppress(OSError):
        os.write(2, _told[number])
    with suppress(OSError, KeyError):
        os.write(1, _json[number])
    os._exit(_REFUSED if number == getattr(signal, "SIGBUS", None) else _CRASH)

"""Signals that end the process: an exception in the main thread, so that temporary files are removed on the way out.

Python calls a handler between any two steps of the main thread, those of :mod:`threading` among them. An exception
there may leave a lock taken for good, and who waits for it waits for ever; so it is raised a moment later, once the
main thread does something else. Where it stands still it waits for another thread: that is the place to raise it.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from contextlib import suppress
from types import FrameType

from bot_onnx._ended import Ended

_PAUSE = 0.01  # seconds until it is tried again
#: Modules whose code takes locks and hands them back.
_LOCKING = frozenset({"threading", "queue", "concurrent.futures._base", "concurrent.futures.thread"})
_seen: list[tuple[int, int]] = []  # where the main thread was when a signal was put off, at most one


def end_cleanly() -> None:
    """Turn SIGTERM and SIGHUP into :class:`Ended`, and SIGINT into ``KeyboardInterrupt``."""
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        number = getattr(signal, name, None)
        # What the parent ignores stays ignored (nohup). Outside the main thread handlers cannot be set.
        with suppress(ValueError):
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    if frame is not None and _puts_off(number, frame):
        return
    _seen.clear()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clean-up
    with suppress(OSError):
        os.write(2, f"ended by {signal.Signals(number).name}\n".encode())
    raise Ended(128 + number)


def _puts_off(number: int, frame: FrameType) -> bool:
    """Whether the main thread is amid locks, and does not stand still there: then the signal comes again."""
    here = (id(frame), frame.f_lasti)
    if frame.f_globals.get("__name__") not in _LOCKING or here in _seen:
        return False
    _seen[:] = [here]
    try:
        _thread.start_new_thread(_come_again, (_thread.get_ident(), number))
    except RuntimeError:  # the system gives no thread
        return False
    return True


def _come_again(main: int, number: int) -> None:
    time.sleep(_PAUSE)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, number)  # to this thread: a wait of its ends only so
    else:
        signal.raise_signal(number)

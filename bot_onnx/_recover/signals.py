"""Signals that end the process, put off until the step that is running is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Deferred:
    """Inside the block such a signal only sets ``arrived`` (0: none did); :meth:`deliver` hands it to whoever had it.

    Signals that the process ignores stay ignored. Outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Deferred:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name, None) for name in _NAMES):
                if number is not None and callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._arrive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def deliver(self, number: int) -> None:
        """Do what a signal would have done at once: one that arrived, here or in another process; 0: nothing."""
        if number:
            self.arrived = 0
            handler = self._before.get(number, signal.default_int_handler)
            handler(number, None)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self.arrived = number

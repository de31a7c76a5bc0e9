"""Signals that end the process, put off until the step that is running is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Deferred:
    """Inside the block such a signal only sets ``arrived``; :meth:`deliver` hands it to whoever handled it before.

    Signals that the process ignores stay ignored. Outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None
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

    def deliver(self) -> None:
        """Do what the signal that arrived would have done at once; nothing if there was none."""
        if self.arrived is not None:
            number, self.arrived = self.arrived, None
            handler = self._before.get(number, signal.default_int_handler)  # of another process, not handled here
            handler(number, None)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self.arrived = number

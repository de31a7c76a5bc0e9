"""Signals that end the process: raised where they leave no lock taken, also in a wait that would not end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bot_onnx._cli.signals import end_cleanly
from bot_onnx._ended import Ended

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
SIGNALS = pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGTERM, Ended), (signal.SIGINT, KeyboardInterrupt)],
    ids=["terminated", "interrupted"],
)
PATIENCE = 10  # seconds


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """The handlers are set as in a process of its own, and taken back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_cleanly()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@SIGNALS
def test_a_signal_while_a_lock_is_handed_back_leaves_it_free(number: int, error: type[BaseException]) -> None:
    gate, came, before = threading.Semaphore(1), [], sys.gettrace()

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code is threading.Condition.__exit__.__code__ and not came:
            came.append(event)
            signal.getsignal(number)(number, frame)  # type: ignore[operator, misc]  # as Python does between two steps
        return trace

    with pytest.raises(error):
        sys.settrace(trace)
        try:
            gate.acquire()
        finally:
            sys.settrace(before)
        time.sleep(PATIENCE)
    assert came == ["call"]
    assert gate._cond.acquire(blocking=False), "the semaphore's own lock is free"  # type: ignore[attr-defined]


@SIGNALS
def test_a_signal_ends_a_wait_for_another_thread(number: int, error: type[BaseException]) -> None:
    never, main = threading.Event(), threading.get_ident()
    sender = threading.Timer(0.1, signal.pthread_kill, (main, number))
    sender.start()
    began = time.monotonic()
    with pytest.raises(error):
        never.wait(PATIENCE)
    sender.join()
    assert time.monotonic() - began < PATIENCE
    never.set()  # nobody holds its lock


@SIGNALS
def test_anywhere_else_it_is_raised_at_once(number: int, error: type[BaseException]) -> None:
    with pytest.raises(error):
        signal.raise_signal(number)


def test_a_second_one_does_not_interrupt_the_clean_up(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Ended) as ended:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143 and capfd.readouterr().err == "ended by SIGTERM\n"


def test_what_the_parent_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_cleanly()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

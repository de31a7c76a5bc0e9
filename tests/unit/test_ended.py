"""A signal whose exception comes while a lock is handed back: another error takes its place, and is not believed."""

from __future__ import annotations

import threading

import pytest

from bot_onnx._cli.output import Activity
from bot_onnx._ended import Ended, StartingThread, told_to_end
from bot_onnx._resample.parallel import Background, ahead, share

ENDINGS = pytest.mark.parametrize("ending", [Ended(143), KeyboardInterrupt()], ids=["terminated", "interrupted"])


def hand_back(lock: threading.RLock, ending: BaseException) -> None:  # type: ignore[valid-type]
    """What the end of :meth:`threading.Condition.wait` does where a signal comes before it has its lock again."""
    with lock:  # type: ignore[attr-defined]
        lock.release()  # type: ignore[attr-defined]
        raise ending


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch, ending: BaseException) -> None:
    """Threads start, and while one waits for that a signal comes."""
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        thread.daemon = True  # a pool that was cut short never ends it, and the tests' process would wait for it
        begin(thread)
        hand_back(threading.RLock(), ending)

    monkeypatch.setattr(threading.Thread, "start", start)


@ENDINGS
def test_the_error_that_took_its_place_is_not_raised(ending: BaseException) -> None:
    with pytest.raises(RuntimeError, match="cannot release"):
        hand_back(threading.RLock(), ending)
    with pytest.raises(type(ending)), told_to_end():
        hand_back(threading.RLock(), ending)
    with pytest.raises(type(ending)), told_to_end():
        try:
            hand_back(threading.RLock(), ending)
        except RuntimeError as error:
            raise ValueError("what this was taken for") from error


def test_other_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ValueError, match="of its own"), told_to_end():
        raise ValueError("of its own")
    with pytest.raises(ValueError, match="of its own"), StartingThread():
        raise ValueError("of its own")
    with StartingThread():
        raise RuntimeError("can't start new thread")


@ENDINGS
@pytest.mark.usefixtures("interrupted")
def test_nothing_is_made_twice_and_nothing_goes_on(ending: BaseException) -> None:
    given = ahead(iter(range(5)))
    with pytest.raises(type(ending)):
        next(given)
    assert list(given) == []
    with Background() as background, pytest.raises(type(ending)):
        background.submit(lambda: 1)


@ENDINGS
@pytest.mark.usefixtures("interrupted")
def test_shared_work_ends(monkeypatch: pytest.MonkeyPatch, ending: BaseException) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(type(ending)):
        share(lambda tile: tile, [1, 2, 3])


@ENDINGS
@pytest.mark.usefixtures("interrupted")
def test_the_bar_passes_it_on(ending: BaseException) -> None:
    with pytest.raises(type(ending)):
        Activity("analysing").start()

"""That a process was told to end, also where another error came out of it.

A signal's exception is raised between any two steps of Python, of :mod:`threading` too. Where that is in the middle of
handing a lock back, its ``with`` fails with a ``RuntimeError`` that takes the exception's place: the same that a system
raises that gives no thread. The exception is still there, as the context of the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class Ended(SystemExit):
    """A signal told the process to end; the code is 128 and its number."""


@contextmanager
def told_to_end() -> Iterator[None]:
    """Raise in the block's place what ended it, where an error came out that took its place.

    Raises:
        Ended, KeyboardInterrupt: the process was told to end.
    """
    try:
        yield
    except Exception as error:
        ending = _ending(error)
        if ending is None:
            raise
        raise ending from None


class StartingThread:
    """A block that starts a thread. That the system gives none is passed over; that the process was told to end is not.

    Raises:
        Ended, KeyboardInterrupt: it was.
    """

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Raise what ended the process; say whether a thread was missing."""
        if not isinstance(error, RuntimeError):
            return False
        ending = _ending(error)
        if ending is not None:
            raise ending from None
        return True


def _ending(error: BaseException | None) -> Ended | KeyboardInterrupt | None:
    while error is not None:
        if isinstance(error, Ended | KeyboardInterrupt):
            return error
        error = error.__context__
    return None

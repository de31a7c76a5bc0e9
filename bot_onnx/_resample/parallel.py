"""Work on tiles of arrays, shared among a few threads: NumPy lets go of the interpreter inside its loops.

Which thread takes which tile is left to chance, what a tile computes is not: results do not depend on the number of
threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from bot_onnx._ended import StartingThread

Tile = TypeVar("Tile")
Result = TypeVar("Result")

#: More threads than this wait for memory, not for processors.
MOST_THREADS = 16


def thread_count() -> int:
    """``OMP_NUM_THREADS`` where it is a number, as BLAS libraries read it, else the processors this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").strip()
    if asked.isdecimal() and int(asked) > 0:
        return min(int(asked), MOST_THREADS)
    return min(processor_count(), MOST_THREADS)


def arithmetic() -> dict[str, Any]:
    """What the last bits of a result may depend on, by name: two processes that agree in it compute the same bytes."""
    told = (os.environ.get(name, "").strip() for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    blas = next((int(text) for text in told if text.isdecimal() and int(text) > 0), processor_count())
    known: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    return {
        "NumPy": np.__version__,
        "threads": thread_count(),
        "threads of BLAS": blas,
        "instructions of the processor": " ".join(known["SIMD Extensions"].get("found", ())),
    }


def processor_count() -> int:
    """How many processors this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def share(work: Callable[[Tile], object], tiles: list[Tile]) -> None:
    """Call ``work`` on every tile; returns when all are done. The calling thread works too.

    Raises:
        Exception: the first one that ``work`` raised.
    """
    threads = thread_count()
    left = iter(tiles)  # a list's iterator gives each tile to one thread
    waiting: list[Future[None]] = []
    try:
        with StartingThread():  # else this one does the work
            for _ in range(min(threads, len(tiles)) - 1):
                waiting.append(_pool(threads - 1).submit(_work_through, work, left))
        _work_through(work, left)
    finally:
        for helper in waiting:
            helper.result()


def _work_through(work: Callable[[Tile], object], left: Iterable[Tile]) -> None:
    for tile in left:
        work(tile)


class Background:
    """One thread that does one thing after the other; a context manager that waits for it at its end.

    Where the system gives no thread, work is done when it is submitted.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Start ``work``, or do it; what it returns or raises is in the future."""
        if self._pool is not None:
            with StartingThread():
                return self._pool.submit(work)
            self._pool = None
        done: Future[Result] = Future()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return done

    def __enter__(self) -> Background:
        """Return itself."""
        return self

    def __exit__(self, *ending: object) -> None:
        """Wait for all that was submitted."""
        if self._pool is not None:
            self._pool.shutdown()


def ahead(items: Iterator[Result]) -> Generator[Result, None, None]:
    """The same items, each made in another thread while the one before it is in use; close it to wait for that thread.

    No more of them live at a time than where one is made after the other: the last one, which whoever uses it still
    names, and the next one.
    """
    with Background() as maker:
        context = copy_context()  # NumPy's error state
        coming = maker.submit(partial(context.run, _next, items))
        while found := coming.result():
            coming = maker.submit(partial(context.run, _next, items))
            yield found[0]


def _next(items: Iterator[Result]) -> tuple[()] | tuple[Result]:
    for item in items:
        return (item,)
    return ()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="resample")


if hasattr(os, "register_at_fork"):  # a forked child has the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)

"""Work on tiles of arrays, shared among a few threads: NumPy lets go of the interpreter inside its loops.

Which thread takes which tile is left to chance, what a tile computes is not: results do not depend on the number of
threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

Tile = TypeVar("Tile")

#: More threads than this wait for memory, not for processors.
MOST_THREADS = 16


def thread_count() -> int:
    """``OMP_NUM_THREADS`` where it is a number, as BLAS libraries read it, else the processors this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").strip()
    if asked.isdecimal() and int(asked) > 0:
        return min(int(asked), MOST_THREADS)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, MOST_THREADS)


def share(work: Callable[[Tile], object], tiles: list[Tile]) -> None:
    """Call ``work`` on every tile; returns when all are done. The calling thread works too.

    Raises:
        Exception: the first one that ``work`` raised.
    """
    threads = thread_count()
    left = iter(tiles)  # a list's iterator gives each tile to one thread
    waiting = [_pool(threads - 1).submit(_work_through, work, left) for _ in range(min(threads, len(tiles)) - 1)]
    try:
        _work_through(work, left)
    finally:
        for helper in waiting:
            helper.result()


def _work_through(work: Callable[[Tile], object], left: Iterable[Tile]) -> None:
    for tile in left:
        work(tile)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="resample")


if hasattr(os, "register_at_fork"):  # a forked child has the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)

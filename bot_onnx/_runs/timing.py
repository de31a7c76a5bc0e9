"""How long runs take: medians, of runs in turn, so that all meet the same load."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def median_times(
    runs: Mapping[str, Callable[[], object]], *, fewest: int, most: int, seconds: float
) -> dict[str, float]:
    """Median seconds of every run.

    Args:
        runs: what is timed, by name.
        fewest: runs that each has at least. most: and at most.
        seconds: after which one has no more than it must.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(most):
        for name, taken in times.items():
            if len(taken) < fewest or sum(taken) < seconds:
                started = time.perf_counter()
                runs[name]()
                taken.append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}

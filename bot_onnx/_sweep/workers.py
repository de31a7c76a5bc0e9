"""Who makes the trials: this process, or workers of Dask's, here or on other machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from bot_onnx._sweep.trial import run_trial
from bot_onnx._sweep.types import Combination, Outcome, Task
from bot_onnx._workers import Pool, client_of, distributed
from bot_onnx.errors import BotError

_LOST: Final = "its worker died again and again: too little memory?"


class Workers(Protocol):
    """Whoever makes trials."""

    def room(self) -> int:
        """How many trials could be begun now."""
        ...

    def begin(self, number: int, combination: Combination) -> None:
        """Begin a trial."""
        ...

    def finished(self) -> list[tuple[int, Outcome]]:
        """Wait for trials that are done: one or more."""
        ...


class Here:
    """One trial after the other, in this process."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._next: tuple[int, Combination] | None = None

    def room(self) -> int:
        """One, unless one was begun."""
        return int(self._next is None)

    def begin(self, number: int, combination: Combination) -> None:
        """Note it."""
        self._next = number, combination

    def finished(self) -> list[tuple[int, Outcome]]:
        """Make it."""
        assert self._next is not None
        (number, combination), self._next = self._next, None
        return [(number, run_trial(self._task, number, combination))]


class Dask:
    """As many at a time as the scheduler has workers."""

    def __init__(self, client: Any, task: Task) -> None:
        self._client = client
        self._task = client.scatter(task, broadcast=False, hash=False)
        self._running: dict[Any, int] = {}

    def room(self) -> int:
        """Workers without a trial."""
        return max(len(self._client.nthreads()), 1) - len(self._running)

    def begin(self, number: int, combination: Combination) -> None:
        """Hand it to Dask, which picks the worker, and another one should that die."""
        future = self._client.submit(run_trial, self._task, number, combination, pure=False)
        self._running[future] = number

    def finished(self) -> list[tuple[int, Outcome]]:
        """Those that are done by now, at least one."""
        with self._client.as_current():
            done = distributed().wait(list(self._running), return_when="FIRST_COMPLETED").done
        return [(self._running.pop(future), _outcome(future)) for future in done]


def _outcome(future: Any) -> Outcome:
    try:
        made: Outcome = future.result()
        return made
    except distributed().scheduler.KilledWorker:
        return Outcome("failed", reason=_LOST)
    except ModuleNotFoundError as error:
        raise BotError(f"a worker has no module {error.name}: install bot-onnx[cpu,sweep] where it runs") from error


@contextmanager
def workers(task: Task, *, jobs: int, scheduler: str | None) -> Iterator[Workers]:
    """Workers for the time of the block.

    Args:
        task: what they need to know. jobs: processes on this machine, 1: this one.
        scheduler: address of a scheduler with workers of its own, or None.

    Raises:
        BotError: there is no scheduler at the address, or it has no worker.
    """
    pool = Pool(jobs, scheduler)
    if pool.flag is None:
        yield Here(task)
        return
    with client_of(pool, Path(task.folder) / "dask") as client:
        yield Dask(client, task)

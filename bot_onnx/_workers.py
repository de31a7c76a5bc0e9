"""Processes that share work by Dask, on this machine or wherever a scheduler has its workers."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot_onnx._installing import needing
from bot_onnx.errors import BotError

_ANSWER: Final = 10  # seconds until a scheduler has answered
_WORKER: Final = 60  # and until it has a worker
#: What Dask sets to 1 for its workers unless it is told otherwise.
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Pool:
    """Who does the work.

    Attributes:
        jobs: processes on this machine; 1: this one, alone.
        scheduler: address of a Dask scheduler whose workers do it, or None.
    """

    jobs: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise BotError(f"{self.jobs} jobs: one process at least does the work")

    @property
    def flag(self) -> str | None:
        """The option that asks for other processes than this one; None: nothing does."""
        return "--scheduler" if self.scheduler is not None else "--jobs" if self.jobs > 1 else None

    @property
    def asking(self) -> str:
        """What asks for work that is kept, as messages call it: that, or else ``resume``."""
        return (self.flag or "--resume").removeprefix("--")


HERE: Final = Pool()


def distributed() -> Any:
    """Return the ``distributed`` module of Dask.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    with needing("Dask shares work among processes (--jobs 1 does without)", "cpu", "sweep"):
        return importlib.import_module("distributed")


@contextmanager
def client_of(pool: Pool, folder: Path, *, own_threads: bool = True) -> Iterator[Any]:
    """A client of Dask's for the time of the block.

    Args:
        pool: asks for other processes than this one.
        folder: what processes here write down on their way; made if it is missing.
        own_threads: processes here take one thread each for their arithmetic; else as many as this one does.

    Raises:
        BotError: there is no scheduler at the address, or it has no worker.
        MissingRuntimeError: Dask is not installed.
    """
    module = distributed()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if pool.scheduler is not None:
        with _answering(pool.scheduler) as client:
            yield client
        return
    threads = {} if own_threads else {"distributed.nanny.pre-spawn-environ": dict.fromkeys(_THREADS)}
    with importlib.import_module("dask.config").set(threads):
        cluster = module.LocalCluster(
            n_workers=pool.jobs,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # of its server of counters: any port that is free
            memory_limit=0,  # models are mapped, which counts as memory
            local_directory=str(folder),
            silence_logs=logging.CRITICAL,
        )
    with cluster, module.Client(cluster, set_as_default=False) as client:
        yield client


@contextmanager
def _answering(address: str) -> Iterator[Any]:
    try:
        client = distributed().Client(address, timeout=_ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise BotError(f"no Dask scheduler answers at {address}: {reason}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_WORKER)
        except TimeoutError as error:
            raise BotError(f"the Dask scheduler at {address} has no worker: start one with 'dask worker'") from error
        yield client

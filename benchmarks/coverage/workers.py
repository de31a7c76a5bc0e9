"""Run each job in a process of its own, forked from one that has the large libraries loaded; a hang is killed."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.coverage.case import Case, Row


@dataclass(frozen=True, slots=True)
class Job:
    """One case and exporter, with the targets that are wanted."""

    case: Case
    exporter: str
    targets: tuple[str, ...]


@dataclass(slots=True)
class _Running:
    job: Job
    process: BaseProcess
    started: float
    seen: set[str] = field(default_factory=set)


def run_jobs(
    jobs: Sequence[Job], cache: Path, *, parallel: int, timeout: float, patience: float, preload: Sequence[str]
) -> Iterator[Row]:
    """Yield rows as they come. Every target of every job gets exactly one.

    Args:
        jobs: what to do, in this order.
        cache: folder of the exports.
        parallel: processes at a time.
        timeout: seconds of processor time for a job, after which it is killed.
        patience: seconds by the clock, for a job that waits for ever.
        preload: modules to load before forking.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.coverage.judge", *preload])
    waiting = list(reversed(jobs))
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                job = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(job, cache, sender, timeout), daemon=True)
                process.start()
                sender.close()
                running[receiver] = _Running(job, process, time.monotonic())
            for receiver in wait(list(running), timeout=0.5):
                assert isinstance(receiver, Connection)
                yield from _receive(receiver, running)
            for receiver, state in list(running.items()):
                if time.monotonic() - state.started > patience:
                    state.process.kill()
                    yield from _missing(state, "timeout", f"killed after {patience:.0f} s by the clock")
                    _finish(receiver, running)
    finally:
        for state in running.values():
            state.process.kill()


def _receive(receiver: Connection, running: dict[Connection, _Running]) -> Iterator[Row]:
    state = running[receiver]
    try:
        row = receiver.recv()
    except EOFError:  # the process is done, or gone
        state.process.join(5)
        code = state.process.exitcode
        if code == -signal.SIGXCPU:
            yield from _missing(state, "timeout", "killed for its processor time")
        else:
            yield from _missing(state, "failed", f"the process ended with code {code}")
        _finish(receiver, running)
        return
    state.seen.add(row.target)
    yield row


def _missing(state: _Running, status: str, detail: str) -> Iterator[Row]:
    """A row for every target that has none."""
    for target in state.job.targets:
        if target not in state.seen:
            row = Row(state.job.case.suite, state.job.case.name, state.job.exporter, target, "failed", detail)
            yield replace(row, status=status)  # type: ignore[arg-type]


def _finish(receiver: Connection, running: dict[Connection, _Running]) -> None:
    running.pop(receiver).process.join(5)
    receiver.close()


def _work(job: Job, cache: Path, sender: Connection, timeout: float) -> None:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(spent.ru_utime + spent.ru_stime + timeout)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 10))
    from benchmarks.coverage.exporting import quiet
    from benchmarks.coverage.judge import judge

    # Exporters print whole graphs from C++, past Python's own streams.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    with quiet():
        for row in judge(job.case, job.exporter, job.targets, cache):
            sender.send(row)
    sender.close()

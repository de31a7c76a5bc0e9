"""The command: ``python -m benchmarks.coverage``."""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.coverage.case import EXPORTERS, PUBLISHED, SUITES, TARGETS, Case, Row
from benchmarks.coverage.cases import load_cases
from benchmarks.coverage.exporting import export_path
from benchmarks.coverage.page import render, summary
from benchmarks.coverage.store import Store, cache_folder, engine_hash, row_key
from benchmarks.coverage.workers import Job, run_jobs
from benchmarks.environment import environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage",
        description="Resize every network there is and compare with native exports; writes docs/coverage.md.",
    )
    made.add_argument("--filter", action="append", default=[], metavar="TEXT", help="cases whose name contains TEXT")
    made.add_argument("--suite", action="append", choices=SUITES, help="only these suites")
    made.add_argument("--exporter", action="append", choices=EXPORTERS, help="only these exporters")
    made.add_argument("--target", action="append", choices=TARGETS, help="only these targets")
    made.add_argument("--fresh", action="store_true", help="measure again what was measured with this source")
    made.add_argument("--resume", action="store_true", help="skip what was measured with this source (the default)")
    made.add_argument("--stale", action="store_true", help="skip what was measured with any source")
    made.add_argument("--shuffle", action="store_true", help="in a fixed random order: part of a run is a fair sample")
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (default 1)")
    made.add_argument(
        "--timeout", type=float, default=300.0, metavar="S", help="processor seconds for a case and exporter"
    )
    made.add_argument("--page", type=Path, metavar="FILE", help=f"write the page here (default {PAGE.name}, full runs)")
    made.add_argument("--page-only", action="store_true", help="write the page from what is stored, measure nothing")
    made.add_argument("--list", action="store_true", help="list the cases and leave")
    return made


def chosen(cases: Sequence[Case], options: argparse.Namespace) -> list[Job]:
    """The jobs that the options ask for. ``--filter`` texts are alternatives; ``=NAME`` is one case by its name."""
    jobs: list[Job] = []
    for case in cases:
        if options.filter and not any(
            case.name == text[1:] if text.startswith("=") else text in f"{case.suite}/{case.name}"
            for text in options.filter
        ):
            continue
        for exporter in case.exporters:
            if options.exporter and exporter not in options.exporter:
                continue
            targets = tuple(t for t in case.targets if not options.target or t in options.target)
            jobs.append(Job(case, exporter, targets))
    return jobs


def open_jobs(jobs: Sequence[Job], done: set[str]) -> list[Job]:
    """The jobs without the targets whose keys are in ``done``."""
    left = [
        Job(job.case, job.exporter, tuple(t for t in job.targets if row_key(job.case, job.exporter, t) not in done))
        for job in jobs
    ]
    return [job for job in left if job.targets]


def _preload(jobs: Sequence[Job], cache: Path) -> list[str]:
    """Modules worth loading before the workers are forked: none if all exports are there."""
    recipes = [
        (recipe, job.exporter)
        for job in jobs
        for recipe in (job.case.source, *(job.case.targets[t].native for t in job.targets))
        if recipe is not None and job.exporter != PUBLISHED
    ]
    paths = {export_path(recipe, exporter, cache): exporter for recipe, exporter in recipes}
    missing = {e for path, e in paths.items() if not path.exists() and not path.with_suffix(".failed").exists()}
    modules = ["benchmarks.coverage.preload.libraries"] if missing else []
    return modules + (["benchmarks.coverage.preload.dynamo"] if any(e.startswith("dynamo") for e in missing) else [])


def measure(jobs: Sequence[Job], store: Store, console: Console, options: argparse.Namespace) -> None:
    """Run the jobs, store every row as it comes, and say what is not equal."""
    cache = cache_folder()
    columns = (TextColumn("{task.description:32.32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=sum(len(job.targets) for job in jobs))
        by_name = {(job.case.suite, job.case.name): job.case for job in jobs}
        rows = run_jobs(
            jobs,
            cache,
            parallel=options.jobs,
            timeout=options.timeout,
            patience=20 * options.timeout,
            preload=_preload(jobs, cache),
        )
        for row in rows:
            store.add(row, row_key(by_name[row.suite, row.case], row.exporter, row.target))
            progress.update(task, advance=1, description=row.case)
            console.print(_line(row), highlight=False, markup=False, soft_wrap=True)


def _line(row: Row) -> str:
    far = f" {row.distance:.0e}" if row.distance is not None else ""
    proof = f" [{row.proof}]" if row.proof == "growth" else ""
    detail = f"  {row.detail[:180]}" if row.detail else ""
    return f"{row.case:22} {row.exporter:13} {row.target:8} {row.seconds:5.1f}s {row.status}{far}{proof}{detail}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit code 1 if anything came out wrong or failed."""
    options = parser().parse_args(arguments)
    console = Console(stderr=False)
    jobs = chosen(load_cases(options.suite or SUITES), options)
    if options.list:
        for job in jobs:
            console.print(f"{job.case.suite}/{job.case.name} {job.exporter}: {', '.join(job.targets)}", highlight=False)
        return 0
    store = Store(cache_folder() / "results.jsonl")
    keys = [row_key(job.case, job.exporter, target) for job in jobs for target in job.targets]
    started = time.perf_counter()
    if not options.page_only:
        done = {row.key for row in store.rows} if options.stale else set(store.current())
        left = open_jobs(jobs, set() if options.fresh else done)
        if options.shuffle:
            random.Random(0).shuffle(left)
        measure(left, store, console, options)
    rows = store.latest(keys)
    console.print(summary(rows))
    console.print(f"{time.perf_counter() - started:.0f} s; {len(rows)} of {len(keys)} cells")
    whole = not (options.filter or options.suite or options.exporter or options.target)
    page = options.page or (PAGE if whole or options.page_only else None)
    if page is not None:
        # What is stored was measured by the same command without --page-only, which resumes where it stopped.
        given = [argument for argument in arguments or sys.argv[1:] if argument != "--page-only"]
        command = shlex.join(["python", "-m", "benchmarks.coverage", *given])
        page.write_text(render(rows, command=command, environment=environment(), engine=engine_hash(), cells=len(keys)))
        console.print(f"wrote {page}")
    return int(any(row.status in ("wrong", "failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.system.fuzz --cases 5000 --seed 1``: damage files, run commands on them, and count how they end."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.system.fuzz.harness import PATIENCE, Outcome, fuzz, prepare, try_one

KINDS = ("success", "refusal", "stopped", "fault")


def run() -> int:
    """Parse, run, tell; exit code 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="commands at a time")
    parser.add_argument("--case", type=int, help="run this one alone, and leave its folder")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds that a command may take")
    parser.add_argument("--folder", type=Path, help="where folders of cases with faults are left")
    parser.add_argument("--log", type=argparse.FileType("w"), help="where every outcome goes, a line of JSON each")
    parser.add_argument("--json", action="store_true", help="a summary as JSON instead of tables")
    given = parser.parse_args()
    if given.case is not None:
        return _replay(given.seed, given.case, given.patience)
    started = time.monotonic()
    numbers = list(range(given.first, given.first + given.cases))
    with tempfile.TemporaryDirectory() as folder:
        outcomes = _all(given.folder or Path(folder), numbers, given)
    _tell(outcomes, given, time.monotonic() - started)
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def _all(folder: Path, numbers: list[int], given: argparse.Namespace) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes = []
    keep = given.folder is not None
    with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("cases", total=len(numbers))
        for outcome in fuzz(folder, numbers, given.seed, given.jobs, given.patience, keep):
            outcomes.append(outcome)
            bar.advance(task)
            if given.log:
                print(json.dumps(asdict(outcome)), file=given.log, flush=True)
            if outcome.faults:
                print(json.dumps(asdict(outcome)), file=sys.stderr, flush=True)
    return outcomes


def _replay(seed: int, number: int, patience: float) -> int:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    prepare(folder)
    outcome = try_one(folder, seed, number, patience, keep=True)
    print(json.dumps(asdict(outcome) | {"folder": str(folder)}, indent=2))
    return 1 if outcome.faults else 0


def _tell(outcomes: list[Outcome], given: argparse.Namespace, seconds: float) -> None:
    by_command: dict[str, Counter[str]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.command):
        by_command.setdefault(outcome.command.split()[0], Counter())[outcome.kind] += 1
    total = Counter(outcome.kind for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    if given.json:
        faults = [asdict(outcome) for outcome in outcomes if outcome.faults]
        told = {"cases": len(outcomes), "seed": given.seed, **{kind: total[kind] for kind in KINDS}}
        more = {"commands": by_command, "seconds": round(seconds, 1), "slowest": slowest.seconds, "faults": faults}
        print(json.dumps(told | more, indent=2))
        return
    table = Table("command", "cases", *KINDS, title=f"{len(outcomes)} cases of seed {given.seed}, {seconds:.0f} s")
    for command, counted in [*by_command.items(), ("all", total)]:
        table.add_row(command, str(counted.total()), *(str(counted[kind]) for kind in KINDS))
    Console().print(table)
    print(f"slowest: case {slowest.number}, {slowest.seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(run())

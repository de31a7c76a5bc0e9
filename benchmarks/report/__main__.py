"""Measures what the tool costs, row by row, and writes ``docs/figures.json`` and ``docs/figures.md``::

    python -m benchmarks.report [--row NAME ...] [--big --folder DIR] [--check]

Rows that are not measured keep what stands in the JSON file. ``--check`` writes nothing: it measures, compares every
ratio with the one that stands there, and ends with exit code 1 where one is worse by more than a third or so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environment import commit, machine
from benchmarks.report.page import number, page
from benchmarks.report.profile import ROOT, profile_of
from benchmarks.report.rows import ROWS
from benchmarks.report.types import TOLERANCE, Measured, Place, Work
from benchmarks.whole_command import CACHE, CommandError

JSON, PAGE = ROOT / "docs" / "figures.json", ROOT / "docs" / "figures.md"


def published(path: Path = JSON) -> dict[str, Measured]:
    """What is kept of every row."""
    if not path.is_file():
        return {}
    return {name: Measured.parse(content) for name, content in json.loads(path.read_text())["rows"].items()}


def measured(row: Work, place: Place, *, profiled: bool = True) -> Measured:
    """Measure a row, and profile it where a goal was not met."""
    figures = dict(row.measure(place))
    missed = any(not goal.met(figures[goal.key]) for goal in row.goals if goal.key in figures)
    profile = profile_of(row.profiled(place), place.scratch) if profiled and missed and row.profiled else []
    load = round(os.getloadavg()[1], 1)
    return Measured(figures, profile, datetime.now(UTC).date().isoformat(), commit(), machine(), load)


def regressions(
    rows: Sequence[Work], before: Mapping[str, Measured], now: Mapping[str, Measured], tolerance: float = TOLERANCE
) -> list[str]:
    """The ratios that are worse than the published ones."""
    found = []
    for row in rows:
        for goal in row.goals:
            if not goal.ratio or row.name not in before or row.name not in now:
                continue
            old, new = before[row.name].figures.get(goal.key), now[row.name].figures.get(goal.key)
            if old is not None and new is not None and goal.worse(new, old, tolerance):
                found.append(f"{row.name}: {goal.told} is {number(new, goal.unit)}, published {number(old, goal.unit)}")
    return found


def _write(kept: Mapping[str, Measured]) -> None:
    content = {"rows": {row.name: asdict(kept[row.name]) for row in ROWS if row.name in kept}}
    JSON.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(ROWS, kept))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what the tool costs and write docs/figures.md.")
    names = [row.name for row in ROWS]
    parser.add_argument("--row", nargs="+", choices=names, metavar="NAME", help=f"only these of {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=3, help="of what is short (default 3)")
    parser.add_argument("--big", action="store_true", help="also the rows of files of gigabytes")
    parser.add_argument("--folder", type=Path, default=CACHE, help=f"where models are made and kept (default {CACHE})")
    parser.add_argument("--check", action="store_true", help="write nothing, compare ratios with the published ones")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from the JSON file again")
    return parser.parse_args()


def main() -> None:
    """Measures, tells, writes or compares."""
    options = _arguments()
    kept = published()
    rows = [row for row in ROWS if row.name in options.row] if options.row else list(ROWS)
    rows = [] if options.page else [row for row in rows if options.big or not row.big]
    options.folder.mkdir(parents=True, exist_ok=True)
    now: dict[str, Measured] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="report-", dir=options.folder) as scratch:
        place = Place(options.folder.resolve(), Path(scratch).resolve(), options.big, options.runs)
        for row in rows:
            started = time.perf_counter()
            try:
                now[row.name] = measured(row, place, profiled=not options.check)
            except CommandError as error:
                print(f"{row.name}: {error}", file=sys.stderr)
                failed = True
                continue
            told = ", ".join(f"{g.told} {number(now[row.name].figures[g.key], g.unit)}" for g in row.goals
                             if g.key in now[row.name].figures)  # fmt: skip
            print(f"{row.name} ({time.perf_counter() - started:.0f} s): {told}", flush=True)
            if not options.check:  # after each one: a run over all of them may be broken off
                _write(published() | now)
    if options.check:
        worse = regressions(rows, kept, now)
        print("\n".join(worse) or "no ratio is worse than the published one")
        sys.exit(1 if worse or failed else 0)
    _write(published() | now)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

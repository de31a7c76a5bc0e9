"""The page of figures, made whole from what is kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.report.types import PART, Goal, Measured, Work

_HEAD = """# Figures

What the tool costs, each piece of work beside what it should come to. `python -m benchmarks.report` measures all of it
and writes this page whole (`--row NAME` measures one; `--big` those of files of gigabytes; `--check` compares ratios
with the ones that stand here). A ratio (×) has both sides measured in turn within one run, so that a busy machine slows
both; CPU seconds are of all threads, and of the median run: on a machine whose processors are shared they are several
times those of an idle one. The load is the system's average of processes that want a processor, of which a command of
ours is one to two. Peak memory is that of the worst run.
"""
_END = """
How memory is kept low is in [memory.md](memory.md), how the resampling is fast in [speed.md](speed.md), what an
alignment is worth in [align.md](align.md).
"""


def page(rows: Iterable[Work], measured: Mapping[str, Measured]) -> str:
    """The whole page; rows that were never measured are named."""
    rows = tuple(rows)
    known = [(row, measured[row.name]) for row in rows if row.name in measured]
    lines = [_HEAD, "| work | row | figure | measured | to reach | |", "|---|---|---|--:|--:|---|"]
    for row, result in known:
        for place, goal in enumerate(goal for goal in row.goals if goal.key in result.figures):
            told = (row.told, f"`{row.name}`") if place == 0 else ("", "")
            lines.append(_line(told, goal, result.figures[goal.key]))
    missing = [f"`{row.name}`" for row in rows if row.name not in measured]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    lines += ["", *_circumstances(known), *_distances(known)]
    return "\n".join(lines) + _END


def _line(told: tuple[str, str], goal: Goal, value: float) -> str:
    reach = "" if goal.reach is None else f"{'≥' if goal.more else '≤'} {number(goal.reach, goal.unit)}"
    state = "" if goal.reach is None else "reached" if goal.met(value) else "not reached"
    return f"| {told[0]} | {told[1]} | {goal.told} | {number(value, goal.unit)} | {reach} | {state} |"


def number(value: float, unit: str) -> str:
    """A figure with its unit, in no more digits than were measured."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}{f' {unit}' if unit else ''}"


def _circumstances(known: Iterable[tuple[Work, Measured]]) -> list[str]:
    """Where and when rows were measured, and beside how much else; those of one commit in one sentence."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row, result in known:
        told = f"`{row.name}`" + (f" (load {result.load:.1f})" if result.load else "")
        groups.setdefault((result.machine, result.date, result.commit), []).append(told)
    return [
        f"Measured on {date} at commit {commit or 'unknown'} on {machine}: {', '.join(names)}.\n"
        for (machine, date, commit), names in groups.items()
    ]


def _distances(known: Iterable[tuple[Work, Measured]]) -> list[str]:
    """Per row with a goal that was not met, where its time goes."""
    lines: list[str] = []
    for row, result in known:
        missed = [goal for goal in row.goals if goal.key in result.figures and not goal.met(result.figures[goal.key])]
        if not missed:
            continue
        told = "; ".join(f"{g.told} {number(result.figures[g.key], g.unit)}" for g in missed)
        lines += [f"### {row.told}", "", f"Not reached: {told}."]
        if result.profile:
            lines += ["Where the time goes, by cProfile (what is written in C counts for its caller):", ""]
            lines += [f"* {line}" for line in result.profile]
        parts = {key.removeprefix(PART): value for key, value in result.figures.items() if key.startswith(PART)}
        if parts:
            lines += ["Of what it is made up:", ""]
            lines += [f"* {part}: {number(value, row.goals[0].unit)}" for part, value in parts.items()]
        lines.append("")
    return ["## What is in the way", "", *lines] if lines else []

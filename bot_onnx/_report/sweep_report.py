"""The table of ``sweep``: combinations, the best first, and why others have no score."""

from __future__ import annotations

import csv
import io
from typing import Any

from rich.console import Group, RenderableType

from bot_onnx._report.layout import cell, facts, plural, table
from bot_onnx._report.units import count, seconds, size
from bot_onnx._report.values import plain
from bot_onnx._sweep.types import Sweep, Trial

_COLUMNS = (
    "rank",
    "trial",
    "status",
    "score",
    "spec",
    "method",
    "size_bytes",
    "parameters",
    "seconds",
    "reason",
    "kept",
)


def sweep_report(sweep: Sweep) -> Group:
    """What was swept, the ranking, the reasons."""
    scored = [trial for trial in sweep.trials if trial.outcome.status == "scored"]
    parts: list[RenderableType] = [_header(sweep, len(scored))]
    if scored:
        parts += ["", _ranking(scored)]
    reasons: dict[tuple[str, str], list[Trial]] = {}
    for trial in sweep.trials[len(scored) :]:
        reasons.setdefault((trial.outcome.status, trial.outcome.reason or ""), []).append(trial)
    for (status, reason), trials in reasons.items():
        shown = "; ".join(f"{trial.combination.spec}, {trial.combination.way}" for trial in trials[:2])
        more = f" and {len(trials) - 2} more" if len(trials) > 2 else ""
        parts += ["", cell(f"{status} ({shown}{more}): {reason}")]
    parts += [cell(f"note: {note}") for note in sweep.notes]
    if sweep.output is not None:
        parts += ["", cell(f"{sweep.output} is the best of them")]
    return Group(*parts)


def _header(sweep: Sweep, scored: int) -> RenderableType:
    number = len(sweep.trials)
    resumed = f", {sweep.resumed} of them by earlier runs" if sweep.resumed else ""
    return facts(
        {
            "model": sweep.source,
            "study": sweep.study,
            "score": f"{sweep.score}, {'lower' if sweep.minimize else 'higher'} is better",
            "tried": f"{plural(number, 'combination')}{resumed}; {scored} scored; {seconds(sweep.seconds)}",
        }
    )


def _ranking(trials: list[Trial]) -> RenderableType:
    made = table("Ranking", [">", "score>", "spec", "method and options", "file>", "parameters>"])
    for rank, trial in enumerate(trials, 1):
        outcome, combination = trial.outcome, trial.combination
        made.add_row(
            str(rank),
            f"{outcome.score:.6g}",
            cell(combination.spec),
            cell(combination.way),
            size(outcome.size_bytes or 0),
            count(outcome.parameters or 0),
        )
    return made


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """What was found; ``best`` is the first trial, or None where none has a score."""
    return {**plain(sweep), "best": plain(sweep.best)}


def sweep_csv(sweep: Sweep) -> str:
    """The trials as a table for other programs: a line each, options as columns behind the others."""
    options = list(dict.fromkeys(name for trial in sweep.trials for name in trial.combination.options))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*_COLUMNS, *options])
    for rank, trial in enumerate(sweep.trials, 1):
        outcome, made = trial.outcome, trial.combination
        scored = outcome.status == "scored"
        lines.writerow(
            [
                rank if scored else "", trial.number, outcome.status, outcome.score, made.spec, made.method,
                outcome.size_bytes, outcome.parameters, f"{outcome.seconds:.3f}", outcome.reason, trial.kept,
                *(made.options.get(name, "") for name in options),
            ]
        )  # fmt: skip
    return text.getvalue()

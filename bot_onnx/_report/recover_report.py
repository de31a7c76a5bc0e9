"""The report of a recovery: what was trained, what was compared, and the quality before and after."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group

from bot_onnx._recover.types import MEASURES, Recovery, Settings
from bot_onnx._report.layout import cell, facts, plural, table
from bot_onnx._report.units import number, seconds
from bot_onnx._report.values import plain


def recover_report(recovery: Recovery) -> Group:
    """Everything that ``recover`` shows, as one renderable."""
    settings = recovery.settings
    went_on = f", taken up at step {recovery.resumed}" if recovery.resumed else ""
    header = facts(
        {
            "output": recovery.output,
            "teacher": recovery.teacher,
            "data": f"{recovery.samples:,} samples trained on, {recovery.held_out:,} held out",
            "trained": f"{plural(recovery.tensors, 'tensor')}, {recovery.parameters:,} numbers",
            "left alone": _fixed(recovery),
            "steps": f"{settings.steps:,} of {_samples(settings)} samples, seed {settings.seed}{went_on}",
            "on": recovery.device + (f", in {recovery.processes} processes" if recovery.processes > 1 else ""),
            "validation": _validation(recovery),
            "loss": f"{number(recovery.loss[0])} -> {number(recovery.loss[1])}",
            "time": seconds(recovery.seconds),
        }
    )
    compared = table("compared", ["what!", "student", "teacher", "by"])
    for entry in recovery.compared:
        compared.add_row(cell(entry.what), cell(entry.student), cell(entry.teacher), cell(entry.how))
    quality = table("beside the teacher, on the samples held out", ["output", "measure!", "before>", "after>"])
    for output, name, before, after in recovery.measured():
        quality.add_row(cell(output), cell(MEASURES[name]), cell(_value(name, before)), cell(_value(name, after)))
    return Group(header, "", compared, "", quality, "", *(cell(f"note: {note}") for note in recovery.notes))


def _samples(settings: Settings) -> str:
    return f"{settings.batch}" if settings.accumulate == 1 else f"{settings.accumulate} x {settings.batch}"


def _validation(recovery: Recovery) -> str | None:
    if not recovery.validated:
        return None
    step, lowest = min(recovery.validated, key=lambda entry: entry[1])
    told = f"loss {number(recovery.validated[-1][1])} at the end, lowest {number(lowest)} after step {step:,}"
    if recovery.stopped is not None:
        told += f"; stopped after step {recovery.stopped:,}, as it no longer improved"
    return f"{told}; written: the weights after step {recovery.written:,}"


def _fixed(recovery: Recovery) -> str | None:
    counts = Counter(recovery.fixed.values())
    return "; ".join(f"{plural(count, 'tensor')}: {why}" for why, count in counts.items()) or None


def _value(name: str, value: float | None) -> str:
    return f"{value:.1%}" if name == "agreement" and value is not None else number(value, 4)


def recover_json(recovery: Recovery) -> dict[str, Any]:
    """The same as a JSON value."""
    found: dict[str, Any] = plain(recovery)
    return found

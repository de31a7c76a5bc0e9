"""The tables of a verification: its checks, and how close the outputs are to the source's."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from bot_onnx._report.costs_report import costs_table, macs_text
from bot_onnx._report.layout import cell, facts, table
from bot_onnx._report.units import count, number, size
from bot_onnx._verify.types import Check, OutputComparison, VerifyReport

_STYLES = {"pass": "green", "fail": "bold red", "skip": "dim", "info": "yellow"}


def verify_report(report: VerifyReport) -> Group:
    """Everything that ``verify`` shows, as one renderable."""
    header = facts(
        {
            "model": report.path,
            "size": f"{size(report.size_bytes)}, {count(report.parameters)} parameters",
            "MACs": None if report.costs is None else macs_text(report.costs),
            "layers": ", ".join(f"{chain} {layers}" for chain, layers in report.layers.items()) or None,
            "dims": ", ".join(f"{name} {extent}" for name, extent in report.dims.items()) or None,
        }
    )
    costs = [costs_table(report.costs), ""] if report.costs is not None else []
    return Group(header, "", *costs, *tables(report))


def tables(report: VerifyReport) -> list[RenderableType]:
    """The checks, the verdict, and the comparison where there is one."""
    parts: list[RenderableType] = [checks_table(report.checks), verdict(report)]
    if report.comparisons:
        parts += ["", _comparisons(report)]
    return parts


def verdict(report: VerifyReport) -> Text:
    """One line: passed, or which checks failed."""
    failed = [check.name for check in report.checks if check.status == "fail"]
    if failed:
        return cell(f"FAILED: {', '.join(failed)}", "bold red")
    done = sum(check.status == "pass" for check in report.checks)
    skipped = [check.name for check in report.checks if check.status == "skip"]
    told = sum(check.status == "info" for check in report.checks)
    if not done:
        return Text("Nothing was checked.", style="yellow")
    rest = f", {told} for information" if told else ""
    if skipped:
        return Text(f"{done} checks passed{rest}; not checked: {', '.join(skipped)}.", style="yellow")
    return Text(f"All {done} checks passed{rest}.", style="green")


def checks_table(checks: Iterable[Check]) -> RenderableType:
    """Checks, how they ended, what was seen."""
    made = table("Checks", ["check", "result!", "seen"])
    for check in checks:
        made.add_row(cell(check.name), Text(check.status, style=_STYLES[check.status]), cell(check.detail))
    return made


def _comparisons(report: VerifyReport) -> RenderableType:
    promised = any(entry.agrees is not None for entry in report.comparisons)
    mapped = any(entry.mapped for entry in report.comparisons)
    columns = ["output", "shape", "cosine>", "max diff>", "scale>", "KL (nats)>"]
    columns += [*(["as promised!"] if promised else []), *(["source mapped by"] if mapped else [])]
    made = table("Compared with the source, on the same inputs", columns)
    for entry in report.comparisons:
        cells: list[RenderableType] = [
            cell(entry.output),
            f"{' x '.join(map(str, entry.shape)) or 'scalar'}",
            number(entry.cosine, 4),
            number(entry.max_difference),
            number(entry.scale),
            number(entry.divergence),
        ]
        if promised:
            cells.append(_agrees(entry))
        made.add_row(*cells, *([cell(entry.mapped or "same shape")] if mapped else []))
    return made


def _agrees(entry: OutputComparison) -> Text:
    if entry.agrees is None:
        return Text("-")
    return Text("yes", style="green") if entry.agrees else Text("NO", style="bold red")

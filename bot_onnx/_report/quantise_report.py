"""The report of a quantisation: how far from the floats, how large, how fast, and what was left."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from bot_onnx._quantise.tally import says_why
from bot_onnx._quantise.types import Closeness, Quantised, Spent
from bot_onnx._report.demo_report import percent
from bot_onnx._report.json_report import verify_json
from bot_onnx._report.layout import cell, facts, plural, table
from bot_onnx._report.units import change, count, number, seconds, size
from bot_onnx._report.values import plain

MADE_UP = (
    "The inputs are made up, so this says how rounding spreads, not what it costs on data: give samples with "
    "--calibration or --inputs."
)


def quantise_report(result: Quantised) -> Group:
    """Everything that ``quantize`` shows, as one renderable."""
    header = facts(
        {
            "source": result.source,
            "output": result.output,
            "scheme": result.scheme,
            "calibrated on": None if result.calibrated is None else plural(result.calibrated, "sample"),
            "quantised": f"{plural(result.tensors, 'tensor')}, {count(result.numbers)} numbers",
            "compared on": result.compared_on,
            "time": seconds(result.seconds),
        }
    )
    left = table("left in 32 bits", ["tensors>", "numbers>", "why"])
    for entry in result.left:
        left.add_row(str(entry.tensors), count(entry.numbers), cell(says_why(entry, result.kind)))
    close = table("beside the floats", ["output", "max diff>", "scale>", "diff / scale>", "same largest>"])
    for found in result.closeness:
        close.add_row(cell(found.output), *_closeness(found))
    costs = table("files", ["", "size>", "latency, 1 thread>", "same largest>"])
    for cost in result.costs:
        costs.add_row(cell(cost.what), *_cost(cost, result.costs[0]))
    notes = [cell(f"note: {note}") for note in result.notes]
    notes += [cell(f"note: {cost.what}: {cost.why_not}") for cost in result.costs if cost.why_not]
    warned = [Text(MADE_UP, style="yellow")] if result.made_up else []
    shown = (left, "", close) if result.left else (close,)
    return Group(header, "", *shown, "", costs, "", _checks(result), *notes, *warned)


def _checks(result: Quantised) -> Text:
    passed = sum(check.status == "pass" for check in result.report.checks)
    return Text(f"{plural(passed, 'check')} passed, onnx.checker and onnxruntime among them.")


def _closeness(found: Closeness) -> list[Text]:
    if found.max_difference is None:
        return [cell("another shape"), cell(number(found.scale)), cell("-"), cell("-")]
    same = "-" if found.agreement is None else f"{percent(found.agreement)} of {found.rows:,}"
    relative = "-" if found.relative is None else percent(found.relative)
    return [cell(text) for text in (number(found.max_difference), number(found.scale), relative, same)]


def _cost(cost: Spent, first: Spent) -> list[Text]:
    def beside(value: float, before: float | None) -> str:
        return "" if cost is first or not before else f" ({change(before, value)})"

    length = "-" if cost.size_bytes is None else size(cost.size_bytes) + beside(cost.size_bytes, first.size_bytes)
    taken = "-" if cost.latency is None else seconds(cost.latency) + beside(cost.latency, first.latency)
    return [cell(length), cell(taken), cell("" if cost.agreement is None else percent(cost.agreement))]


def scheme_note(floats: str, result: Quantised) -> str:
    """A sentence for the card of a folder that holds both files."""
    return f"{result.output.name} is {floats}, quantised to {result.kind}: {result.scheme}."


def quantise_json(result: Quantised) -> dict[str, Any]:
    """A quantisation, and whether the checks of its output ``passed``."""
    return {**plain(result), "report": verify_json(result.report)}

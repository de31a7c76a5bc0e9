"""The report of files that were resized together: each of them, and what goes from one to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from bot_onnx._report.layout import cell, facts, table
from bot_onnx._report.plan_report import changes, promise_text
from bot_onnx._report.result_report import RETRAIN, shrinks
from bot_onnx._report.verify_report import checks_table, verdict

if TYPE_CHECKING:
    from bot_onnx._report.views import TogetherView


def together_report(made: TogetherView) -> Group:
    """Everything that ``resize`` shows of several files."""
    parts: list[RenderableType] = []
    for name, plan in made.plans.items():
        result = made.results.get(name)
        told = {
            "file": name, "source": plan.source, "output": None if result is None else result.output,
            "outputs": promise_text(plan.promise),
        }  # fmt: skip
        parts += [facts(told), changes(plan)]
        parts += [] if result is None else [verdict(result.report)]
        parts += [*(cell(f"note: {note}") for note in plan.notes), ""]
    links = table("From one to another", ["output", "input"])
    for sides in made.links:
        links.add_row(*map(cell, sides))
    parts += [links]
    if made.checks:
        parts += ["", checks_table(made.checks)]
    parts += [Text(RETRAIN, style="yellow")] if any(map(shrinks, made.plans.values())) else []
    return Group(*parts)

"""The report of a finished resize: what changed, the checks, the comparison, and what to expect of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from bot_onnx._report.layout import cell, facts
from bot_onnx._report.plan_report import changes, method_text, promise_text
from bot_onnx._report.units import seconds
from bot_onnx._report.verify_report import tables

if TYPE_CHECKING:
    from bot_onnx._report.views import ResultView
    from bot_onnx._surgery.types import Plan

RETRAIN = "The model was shrunk: it has lost accuracy until it is trained again."


def shrinks(plan: Plan) -> bool:
    """Whether any dim or chain gets smaller, so that the model cannot keep all that it knew."""
    if plan.promise.kept:  # tokens alone went
        return False
    return any(dim.target < dim.source for dim in plan.dims) or any(
        layer.target < layer.source for layer in plan.layers
    )


def result_report(result: ResultView) -> Group:
    """Everything that ``resize`` shows, as one renderable."""
    plan = result.plan
    header = facts(
        {
            "source": plan.source,
            "output": result.output,
            "spec": plan.name or None,
            "method": method_text(plan),
            "outputs": promise_text(plan.promise),
        }
    )
    closing = [Text(RETRAIN, style="yellow")] if shrinks(plan) else []
    notes = [cell(f"note: {note}") for note in plan.notes]
    return Group(
        header, "", changes(plan, seconds=seconds(result.seconds)), "", *tables(result.report), *notes, *closing
    )

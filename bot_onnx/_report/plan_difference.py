"""How two plans differ: part by part, in the words that a plan is printed in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType

from bot_onnx._report.layout import cell, plural, table
from bot_onnx._report.plan_report import axis_text, method_text, promise_text
from bot_onnx._report.units import arrow, number
from bot_onnx._surgery.edits import FixShape, SetConstant
from bot_onnx._surgery.held import ABSENT, Difference, deciding, differences
from bot_onnx._surgery.types import Plan

Part = tuple[str, Any]  #: text for people, and all that it stands for


def plan_differences(saved: Plan, planned: Plan) -> list[Difference]:
    """Where two plans decide otherwise; the place of a difference is a part of a plan by its name."""
    first, second = dict(_parts(saved)), dict(_parts(planned))
    return [
        found
        for label in dict.fromkeys((*first, *second))
        if (found := _difference(label, first.get(label, (ABSENT, None)), second.get(label, (ABSENT, None))))
    ]


def difference_report(found: list[Difference], saved: str) -> RenderableType:
    """A table of them; ``saved`` is the name of the first plan."""
    if not found:
        return cell(f"The plan is that of {saved}.")
    made = table(f"{plural(len(found), 'difference')}", ["what", f"in {saved}", "now"])
    for one in found:
        made.add_row(cell(one.place), cell(str(one.first)), cell(str(one.second)))
    return made


def difference_json(found: list[Difference]) -> dict[str, Any]:
    """The same as JSON values."""
    return {"differences": [{"what": one.place, "saved": one.first, "planned": one.second} for one in found]}


def _difference(label: str, first: Part, second: Part) -> Difference | None:
    if first[1] == second[1]:
        return None
    if first[0] != second[0]:
        return Difference(label, first[0], second[0])
    inner = next(differences(first[1], second[1]))  # what is printed of it is the same
    return Difference(f"{label}, {inner.place}", inner.first, inner.second)


def _parts(plan: Plan) -> Iterator[tuple[str, Part]]:
    record = deciding(plan)
    named = {"source": plan.source_sha256[:12], "method": method_text(plan), "outputs": promise_text(plan.promise)}
    named |= {"proof": plan.proof.status}
    keys = {"source": "source_sha256", "outputs": "promise"}
    for label, text in named.items():
        yield label, (text, [record.pop(keys.get(label, label)), text])
    for key, value in record.pop("asked").items():
        yield f"asked: {key}", (json.dumps(value), value)
    for layer, told in zip(plan.layers, record.pop("layers"), strict=True):
        yield f"layers: {layer.chain}", (arrow(layer.source, layer.target), told)
    for dim, told in zip(plan.dims, record.pop("dims"), strict=True):
        yield f"{dim.name} ({dim.id})", (arrow(dim.source, dim.target), told)
    for edit, told in zip(plan.constants, record.pop("constants"), strict=True):
        place = f"{edit.place}[{edit.index}]" if isinstance(edit, SetConstant) else edit.place
        old = "computed" if isinstance(edit, FixShape) else number(edit.old, 6)
        yield f"constant {place}", (f"{old} -> {number(edit.new, 6)}", told)
    for stack, told in zip(plan.stacks, record.pop("stacks"), strict=True):
        axes = ", ".join(map(axis_text, stack.task.axes)) or "scalar"
        text = f"{axes}; layers {arrow(*stack.task.layers)}"
        yield f"stack {stack.task.name} ({stack.task.stack})", (text, told)
    for key, value in record.items():
        yield key, (json.dumps(value), value)

"""What ``run`` shows of a recipe: a line a step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Group, RenderableType
from rich.table import Table

from bot_onnx._report.layout import cell, table
from bot_onnx._report.units import count, seconds, size
from bot_onnx._report.values import plain


class StepView(Protocol):
    """What is read of a step."""

    @property
    def name(self) -> str:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def command(self) -> str:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def line(self) -> tuple[str, ...]:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def state(self) -> str:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def output(self) -> Path | None:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def size_bytes(self) -> int | None:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def seconds(self) -> float:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...

    @property
    def result(self) -> Mapping[str, Any]:
        """See :class:`bot_onnx._cli.recipes.job.Told`."""
        ...


def recipe_report(steps: Sequence[StepView], output: Path, *, dry_run: bool) -> Group:
    """The steps, and the commands that they would be where nothing was carried out."""
    made = table("Steps", ["step", "state", "size>", "time>", "outcome"])
    for step in steps:
        made.add_row(
            cell(step.name),
            step.state,
            "" if step.size_bytes is None or step.state == "to do" else size(step.size_bytes),
            "" if step.state == "to do" else seconds(step.seconds),
            cell(outcome(step.command, step.result)),
        )
    return Group(made, *(_lines(steps) if dry_run else [cell(f"output: {output}")]))


def _lines(steps: Sequence[StepView]) -> list[RenderableType]:
    lines = Table.grid()
    for step in steps:
        if step.line:
            lines.add_row(cell(shlex.join(step.line)))
    return ["", lines]


def recipe_json(steps: Sequence[StepView], output: Path, took: float) -> dict[str, Any]:
    """The same as a JSON value."""
    return {"output": str(output), "seconds": took, "steps": [plain(step) for step in steps]}


def outcome(command: str, result: Mapping[str, Any]) -> str:
    """What came of a step, in a phrase; from what its command says as JSON."""
    if not result:
        return ""
    if command == "resize":
        before, after = result["plan"]["parameters"]
        return f"{count(before)} to {count(after)} parameters, all checks passed"
    if command == "recover":
        first, last = result["loss"]
        return f"loss {first:.3g} to {last:.3g}"
    if command == "quantize":
        return str(result["scheme"])
    if command == "verify":
        return f"all {sum(one['status'] == 'pass' for one in result['checks'])} checks passed"
    return str(result.get("output", ""))

"""What a network costs, as tables: in all, chain by chain, and a layer of each."""

from __future__ import annotations

from rich.console import RenderableType

from bot_onnx._costs import Cost, Costs
from bot_onnx._report.layout import cell, table
from bot_onnx._report.units import arrow, count, size


def macs_text(costs: Costs) -> str:
    """Multiply-accumulates with the inputs that they are counted at, in a line."""
    more = f"; {len(costs.uncounted)} nodes are not counted" if costs.uncounted else ""
    return f"{count(costs.macs)} ({costs.macs:,}) at {inputs_text(costs)}{more}"


def inputs_text(costs: Costs) -> str:
    """Shapes of the inputs, as one gives them to ``--input-shape``."""
    return ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in costs.inputs.items())


def costs_table(costs: Costs) -> RenderableType:
    """A row per chain of layers and one for what lies outside, each with what one layer costs."""
    columns = ["part", "layers>", "parameters>", "weights>", "MACs>", "MACs a layer>"]
    made = table("Costs", columns)
    for part in costs.parts:
        each = count(round(part.macs / part.layers)) if part.layers else ""
        layers = str(part.layers) if part.layers else ""
        made.add_row(cell(part.name), layers, count(part.parameters), size(part.weight_bytes), count(part.macs), each)
    return made


def changes_table(before: Costs, after: Costs) -> RenderableType:
    """The same for a plan: what every part costs before and after."""
    made = table("Costs", ["part", "layers>", "parameters>", "weights>", "MACs>"])
    for old, new in zip(before.parts, after.parts, strict=True):
        made.add_row(cell(old.name), *_changed(old, new))
    made.caption = f"MACs at {inputs_text(after)}"
    made.caption_justify = "left"
    return made


def _changed(old: Cost, new: Cost) -> tuple[str, str, str, str]:
    return (
        arrow(old.layers, new.layers) if old.layers else "",
        arrow(count(old.parameters), count(new.parameters)),
        arrow(size(old.weight_bytes), size(new.weight_bytes)),
        arrow(count(old.macs), count(new.macs)),
    )

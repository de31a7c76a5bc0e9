"""The table of the published specs."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from bot_onnx._report.layout import cell, table
from bot_onnx._target import SpecSummary


def specs_report(summaries: Iterable[SpecSummary]) -> Table:
    """One row a spec; a dash where it leaves a size to the source model."""
    columns = ["name!", "layers>", "hidden>", "heads>", "head_dim>", "intermediate>", "trained with"]
    made = table("Published specs", columns)
    for entry in summaries:
        sizes = (entry.layers, entry.hidden, entry.heads, entry.head_dim, entry.intermediate)
        shown = ["-" if value is None else str(value) for value in sizes]
        facts = ", ".join(f"{key} {value}" for key, value in entry.reference.items() if key != "source")
        made.add_row(entry.name, *shown, cell(facts))
    return made

"""The table of ``inspect --energy``: what halving every free dim would keep of each stack's energy, per alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from bot_onnx.align.energy import EnergyTable, StackEnergy
from bot_onnx.report.layout import cell, table

_WIDTH = 20  #: cells of a full bar


def energy_report(tables: Sequence[EnergyTable], dims: Mapping[str, str]) -> Table:
    """One row per stack and axis: the share kept under each alignment, and a bar for the best of them.

    Args:
        tables: one per alignment, over the same stacks.
        dims: dim id -> name.
    """
    kinds = [entry.kind for entry in tables]
    made = table("Energy that halving by Haar keeps", ["stack", "along", *(f"{kind}>" for kind in kinds), "best!"])
    rows = [{row.stack: row for row in entry.rows} for entry in tables]
    for stack, first in rows[0].items():
        same = [row[stack] for row in rows]
        for axis in first.axes:
            shares = [_along(entry, axis.axis, axis.leaf) for entry in same]
            _row(made, f"{stack} {first.name}", dims.get(axis.leaf, axis.leaf), shares)
        if len(first.axes) > 1:
            _row(made, f"{stack} {first.name}", "all of them", [entry.kept for entry in same])
    _row(made, "mean of all stacks", "all of them", [entry.mean for entry in tables])
    return made


def _along(row: StackEnergy, axis: int, leaf: str) -> float | None:
    return next((entry.kept for entry in row.axes if entry.axis == axis and entry.leaf == leaf), None)


def _row(made: Table, name: str, along: str, shares: Sequence[float | None]) -> None:
    known = [share for share in shares if share is not None]
    bar = "█" * round(max(known, default=0.0) * _WIDTH)
    made.add_row(cell(name), cell(along), *("-" if share is None else f"{share:.3f}" for share in shares), bar)

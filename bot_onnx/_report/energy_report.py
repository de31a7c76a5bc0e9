"""The tables of ``inspect --energy``: what halving every free dim would keep of each stack's energy.

First the means, alignment by method; then a table per alignment with a row per stack and axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from rich.console import Group
from rich.table import Table

from bot_onnx._align.energy import EnergyTable, StackEnergy
from bot_onnx._align.types import Kind
from bot_onnx._report.layout import cell, table

_WIDTH = 20  #: cells of a full bar


def energy_report(tables: Sequence[EnergyTable], dims: Mapping[str, str]) -> Group:
    """Means over all stacks, then every stack and axis; bars show the largest share of a row.

    Args:
        tables: one per alignment and method, over the same stacks.
        dims: dim id -> name.
    """
    methods = list(dict.fromkeys(entry.method for entry in tables))
    grouped: dict[Kind, dict[str, EnergyTable]] = {}
    for entry in tables:
        grouped.setdefault(entry.kind, {})[entry.method] = entry
    means = table("Energy that halving keeps, mean of all stacks", ["alignment", *_headers(methods)])
    for kind, found in grouped.items():
        _row(means, [kind], [found[method].mean for method in methods])
    details = [_details(kind, [found[method] for method in methods], dims) for kind, found in grouped.items()]
    return Group(means, *(part for made in details for part in ("", made)))


def _headers(methods: Sequence[str]) -> Iterator[str]:
    yield from (f"{method}>" for method in methods)
    yield "best!"


def _details(kind: Kind, tables: Sequence[EnergyTable], dims: Mapping[str, str]) -> Table:
    made = table(f"Stack by stack, alignment {kind}", ["stack", "along", *_headers([entry.method for entry in tables])])
    rows = [{row.stack: row for row in entry.rows} for entry in tables]
    for stack, first in rows[0].items():
        same = [row[stack] for row in rows]
        name = f"{stack} {first.name}"
        for axis in first.axes:
            _row(made, [name, dims.get(axis.leaf, axis.leaf)], [_along(row, axis.axis, axis.leaf) for row in same])
        if len(first.axes) > 1:
            _row(made, [name, "all of them"], [row.kept for row in same])
    return made


def _along(row: StackEnergy, axis: int, leaf: str) -> float | None:
    return next((entry.kept for entry in row.axes if entry.axis == axis and entry.leaf == leaf), None)


def _row(made: Table, labels: Sequence[str], shares: Sequence[float | None]) -> None:
    known = [share for share in shares if share is not None and isfinite(share)]  # weights may hold anything
    bar = "█" * round(max(known, default=0.0) * _WIDTH)
    made.add_row(*map(cell, labels), *("-" if share is None else f"{share:.3f}" for share in shares), bar)

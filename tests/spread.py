"""A few of the cells of a large table of cases, such that every value of every parameter is among them.

In every run the spread of a test marked ``spread`` is tried: the fewest cells, taken greedily, in which every value of
every parameter occurs, with partners that have been taken least. The others are marked ``thorough``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: Tests with no more cells than these are run whole.
FEW = 6

Cell = frozenset[tuple[str, Any]]


def cell_of(params: Mapping[str, Any]) -> Cell:
    """The values of a case by parameter; what is no plain value is told by its identity: cases share their values."""
    plain = str | int | float | bool | None
    return frozenset((name, value if isinstance(value, plain) else (id(value),)) for name, value in params.items())


def spread(cells: Sequence[Cell]) -> frozenset[int]:
    """Numbers of the cells to keep."""
    if len(cells) <= FEW:
        return frozenset(range(len(cells)))
    missing = frozenset[tuple[str, Any]]().union(*cells)
    taken: list[int] = []
    used: Counter[tuple[str, Any]] = Counter()
    while missing:
        best = max(range(len(cells)), key=lambda n: (len(cells[n] & missing), -sum(used[v] for v in cells[n]), -n))
        taken.append(best)
        used.update(cells[best])
        missing -= cells[best]
    return frozenset(taken)

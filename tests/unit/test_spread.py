"""The spread of a table of cases: every value occurs, with few cells, and always the same ones."""

from __future__ import annotations

from itertools import product

import pytest

from tests.spread import FEW, Cell, cell_of, spread


def table(*sizes: int) -> list[Cell]:
    names = "abcd"[: len(sizes)]
    return [frozenset(zip(names, values, strict=True)) for values in product(*map(range, sizes))]


@pytest.mark.parametrize("sizes", [(12, 3, 3), (40,), (5, 5), (2, 2, 2, 2)])
def test_every_value_occurs_in_as_many_cells_as_the_longest_parameter_has_values(sizes: tuple[int, ...]) -> None:
    cells = table(*sizes)
    kept = spread(cells)
    assert set().union(*(cells[n] for n in kept)) == set().union(*cells)
    assert len(kept) == max(sizes)


def test_partners_change() -> None:
    """Not the first exporter for all architectures."""
    cells = table(12, 3)
    partners = [dict(cells[n])["b"] for n in spread(cells)]
    assert sorted(partners) == sorted([0, 1, 2] * 4)


def test_a_small_table_is_run_whole() -> None:
    assert spread(table(FEW)) == frozenset(range(FEW))
    assert len(spread(table(FEW + 1))) == FEW + 1  # one parameter: every value is one cell


def test_values_that_are_not_plain_are_told_apart() -> None:
    one, other = [1], [1]
    first, second, third = (cell_of({"arch": "bert", "form": form}) for form in (one, other, one))
    assert first & second == {("arch", "bert")} and first != second and first == third

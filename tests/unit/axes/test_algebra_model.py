"""The axis algebra against a model that enumerates: which index of an axis is which tuple of its leaves' indices."""

from __future__ import annotations

from itertools import pairwise, product
from math import prod

from hypothesis import given
from hypothesis import strategies as st

from bot_onnx._axes.dims import DimTable

#: An index as its address: ``(leaf, index in it)`` along the path that it takes, slowest first.
Address = tuple[tuple[int, int], ...]


def addresses(table: DimTable, dim: int) -> list[Address]:
    """Every index of a dim in order, spelled out by nothing but the definitions of product and concat."""
    made = table.composite(dim)
    if made is None:
        return [((table.find(dim), index),) for index in range(table.size(dim)[0])]
    parts = [addresses(table, part) for part in made.parts]
    if made.kind == "concat":
        return [address for part in parts for address in part]
    return [sum(choice, ()) for choice in product(*parts)]


def leaf(table: DimTable, size: int) -> int:
    dim = table.leaf((size, size))
    assert dim is not None
    return dim


def radix(table: DimTable, factors: list[int], cuts: set[int]) -> int:
    """A product with one leaf for every run of factors between cuts."""
    edges = [0, *sorted(cuts), len(factors)]
    made = table.product([leaf(table, prod(factors[a:b])) for a, b in pairwise(edges)])
    assert made is not None
    return made


def tiled(table: DimTable, sizes: list[int], cuts: set[int]) -> int:
    """A concat with one leaf for every run of pieces between cuts."""
    edges = [0, *sorted(cuts), len(sizes)]
    return table.concat([leaf(table, sum(sizes[a:b])) for a, b in pairwise(edges)])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bool, list[int], set[int], set[int]]:
    """Two ways to group the same factors of a product, or the same pieces of a concat."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=2, max_size=4))
    cuts = st.sets(st.integers(1, len(sizes) - 1))
    return draw(st.booleans()), sizes, draw(cuts), draw(cuts)


def merged(case: tuple[bool, list[int], set[int], set[int]], *, swapped: bool) -> tuple[DimTable, int, int]:
    """A fresh table with both groupings merged, in one order or the other."""
    is_product, sizes, ours, theirs = case
    make = radix if is_product else tiled
    table = DimTable()
    a, b = make(table, sizes, ours), make(table, sizes, theirs)
    table.unify(*((b, a) if swapped else (a, b)))
    return table, a, b


def shape(table: DimTable, dim: int) -> list[int]:
    return [table.size(part)[0] for part in table.leaves(dim)]


@given(pairs())
def test_a_merge_gives_both_the_same_leaves_and_every_index_the_same_address(
    case: tuple[bool, list[int], set[int], set[int]],
) -> None:
    table, a, b = merged(case, swapped=False)
    is_product, sizes, ours, theirs = case
    edges = [0, *sorted(ours | theirs), len(sizes)]
    combine = prod if is_product else sum
    assert shape(table, a) == [combine(sizes[x:y]) for x, y in pairwise(edges)]
    found = addresses(table, a)
    assert found == addresses(table, b)
    assert len(set(found)) == len(found) == combine(sizes) == table.size(a)[0]
    assert table.frozen(a) is None


@given(pairs())
def test_a_merge_is_commutative_and_idempotent(case: tuple[bool, list[int], set[int], set[int]]) -> None:
    table, a, b = merged(case, swapped=False)
    other, c, d = merged(case, swapped=True)
    assert shape(table, a) == shape(other, c) == shape(other, d)
    before = addresses(table, a)
    table.unify(b, a)
    table.unify(a, a)
    assert addresses(table, a) == addresses(table, b) == before


@given(st.lists(st.integers(2, 4), min_size=2, max_size=4), st.data())
def test_a_split_keeps_the_order_of_indices(factors: list[int], data: st.DataObject) -> None:
    """Index i of the whole is index ``i // right`` of the slow part and ``i % right`` of the fast one."""
    table = DimTable()
    right = prod(factors[data.draw(st.integers(1, len(factors) - 1)) :])
    whole = radix(table, factors, data.draw(st.sets(st.integers(1, len(factors) - 1))))
    pieces = table.split(whole, (right, right))
    assert pieces is not None and pieces[0] is not None and pieces[1] is not None
    slow, fast = addresses(table, pieces[0]), addresses(table, pieces[1])
    assert addresses(table, whole) == [slow[i // right] + fast[i % right] for i in range(prod(factors))]

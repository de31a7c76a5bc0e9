"""The axis algebra: products and concats split, merge and refine; equal sizes alone merge nothing."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot_onnx._axes.dims import DimTable
from bot_onnx._reasons import Reason, Why


def leaf(table: DimTable, size: int) -> int:
    dim = table.leaf((size, size))
    assert dim is not None
    return dim


def sizes(table: DimTable, dim: int) -> list[int]:
    return [table.size(part)[0] for part in table.leaves(dim)]


def test_equal_sizes_do_not_merge() -> None:
    table = DimTable()
    assert table.find(leaf(table, 8)) != table.find(leaf(table, 8))


def test_unit_axes_have_no_dim_and_merge_with_nothing() -> None:
    table = DimTable()
    assert table.leaf((1, 1)) is None
    a = leaf(table, 4)
    assert table.unify(None, a) == a


def test_split_makes_a_product_for_all_who_share_the_leaf() -> None:
    table = DimTable()
    a, b = leaf(table, 12), leaf(table, 12)
    table.unify(a, b)
    assert table.split(a, (4, 4)) is not None
    assert sizes(table, b) == [3, 4]


@given(st.lists(st.integers(2, 4), min_size=2, max_size=5), st.data())
def test_two_factorisations_refine_to_one(factors: list[int], data: st.DataObject) -> None:
    """Grouping the same mixed radix in two ways gives the same leaves after a merge."""
    table = DimTable()
    total = prod(factors)

    def grouped() -> int:
        dim = leaf(table, total)
        rest = dim
        for cut in sorted(data.draw(st.sets(st.integers(1, len(factors) - 1))), reverse=True):
            pieces = table.split(rest, (prod(factors[cut:]) if rest == dim else _tail(table, rest, factors, cut),) * 2)
            assert pieces is not None and pieces[0] is not None
            rest = pieces[0]
        return dim

    def _tail(table: DimTable, rest: int, factors: list[int], cut: int) -> int:
        return table.size(rest)[0] // prod(factors[:cut])

    a, b = grouped(), grouped()
    table.unify(a, b)
    assert sizes(table, a) == sizes(table, b)
    assert prod(sizes(table, a)) == total
    assert table.frozen(a) is None


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.data())
def test_cuts_tile_the_axis(parts: list[int], data: st.DataObject) -> None:
    table = DimTable()
    total = sum(parts)
    a = leaf(table, total)
    offsets = sorted(data.draw(st.sets(st.integers(1, total - 1), min_size=1)))
    first = table.cut(a, offsets)
    assert first is not None and [table.size(p)[0] for p in first] == [
        stop - start for start, stop in zip([0, *offsets], [*offsets, total], strict=True)
    ]
    again = table.cut(a, offsets)
    if len(offsets) < total - 1:  # single elements are a count, not a concat
        assert again == first


def test_halves_of_a_rotation_become_one_dim() -> None:
    """``concat(b, a)`` meeting ``concat(a, b)``: rotary embeddings swap the halves of head_dim."""
    table = DimTable()
    head_dim = leaf(table, 16)
    halves = table.cut(head_dim, [8])
    assert halves is not None
    table.unify(head_dim, table.concat([halves[1], halves[0]]))
    first, second = table.leaves(head_dim)
    assert first == second


def test_concat_of_products_meets_a_product() -> None:
    """q, k, v with kv groups: (heads + 2 kv) x head_dim."""
    table = DimTable()
    parts = [leaf(table, 8 * 4), leaf(table, 2 * 4), leaf(table, 2 * 4)]
    whole = table.concat(parts)
    rows, columns = leaf(table, 12), leaf(table, 4)
    product = table.product([rows, columns])
    table.unify(whole, product)
    assert sizes(table, parts[0]) == [8, 4]
    assert {table.leaves(part)[-1] for part in parts} == {table.find(columns)}
    assert sizes(table, rows) == [8, 2, 2]


def test_equal_parts_meet_a_count() -> None:
    table = DimTable()
    parts = [leaf(table, 6) for _ in range(3)]
    product = table.product([leaf(table, 3), leaf(table, 6)])
    table.unify(table.concat(parts), product)
    assert len({table.find(part) for part in parts}) == 1


def test_incompatible_splits_freeze_instead_of_merging() -> None:
    table = DimTable()
    a, b = leaf(table, 12), leaf(table, 12)
    table.cut(a, [5])
    table.split(b, (4, 4))
    table.unify(a, b)
    assert table.frozen(a) is not None and table.frozen(b) is not None


def test_different_sizes_freeze() -> None:
    table = DimTable()
    a, b = leaf(table, 4), leaf(table, 6)
    table.unify(a, b)
    assert table.frozen(a) and table.frozen(b) and table.find(a) != table.find(b)


def test_a_freeze_reaches_leaves_and_survives_a_merge() -> None:
    table, reason = DimTable(), Reason.of(Why.CONSTANT, "sines")
    a = leaf(table, 12)
    table.freeze(a, reason)
    table.split(a, (4, 4))
    assert [table.frozen(part) for part in table.leaves(a)] == [reason, reason]
    b = leaf(table, 12)
    table.unify(b, a)
    assert table.frozen(b) == reason


@pytest.mark.parametrize("right", [5, 7, 24])
def test_a_split_that_is_not_whole_is_refused(right: int) -> None:
    table = DimTable()
    assert table.split(leaf(table, 12), (right, right)) is None

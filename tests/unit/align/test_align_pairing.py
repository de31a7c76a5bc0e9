"""Pairing and ordering: the greedy result is the sorted walk's, planted likeness is found, nothing is lost."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot_onnx._align.gram import shares
from bot_onnx._align.pairing import greedy_matching, greedy_pairs, improve_pairs, similar_order

seeds = st.integers(0, 2**32 - 1)


def symmetric(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((n, n))
    return half + half.T


def walk(similarity: np.ndarray) -> set[tuple[int, int]]:
    """All pairs in falling order, each taken if both are free."""
    n = len(similarity)
    pairs = sorted(((i, j) for i in range(n) for j in range(i + 1, n)), key=lambda p: -similarity[p])
    free, taken = set(range(n)), set()
    for i, j in pairs:
        if i in free and j in free:
            free -= {i, j}
            taken.add((i, j))
    return taken


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 17))
def test_greedy_pairs_are_those_of_a_sorted_walk(seed: int, n: int) -> None:
    similarity = symmetric(seed, n)
    assert {(int(i), int(j)) for i, j in greedy_pairs(similarity)} == walk(similarity)


def test_equal_similarities_still_pair_up() -> None:
    assert sorted(greedy_pairs(np.ones((7, 7))).ravel().tolist()) == [0, 1, 2, 3, 4, 5]
    ring = np.zeros((3, 3))
    assert len(greedy_pairs(ring)) == 1


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 20))
def test_exchanges_never_lose(seed: int, n: int) -> None:
    similarity = symmetric(seed, n)
    before = greedy_pairs(similarity)
    after = improve_pairs(similarity, before)
    assert sorted(after.ravel().tolist()) == sorted(before.ravel().tolist())
    assert similarity[after[:, 0], after[:, 1]].sum() >= similarity[before[:, 0], before[:, 1]].sum() - 1e-12


def test_exchanges_escape_a_greedy_trap() -> None:
    similarity = np.array([[0, 10, 9, 0], [10, 0, 0, 9], [9, 0, 0, 0], [0, 9, 0, 0]], dtype=float)
    pairs = improve_pairs(similarity, greedy_pairs(similarity))
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 2), (1, 3)}


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 30))
def test_matching_is_one_to_one_and_finds_a_permutation(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    assert sorted(greedy_matching(rng.standard_normal((n, n))).tolist()) == list(range(n))
    permutation = rng.permutation(n)
    planted = rng.uniform(0, 0.4, (n, n))
    planted[np.arange(n), permutation] = 1.0 + rng.uniform(0, 1, n)
    assert greedy_matching(planted).tolist() == permutation.tolist()


@pytest.mark.parametrize("block", [2, 4, 8])
@pytest.mark.parametrize("count", [3, 4, 6])
def test_planted_blocks_become_neighbours(block: int, count: int) -> None:
    rng = np.random.default_rng(block * 10 + count)
    centres = np.repeat(rng.standard_normal((count, 400)), block, axis=0)
    rows = centres + 0.1 * rng.standard_normal(centres.shape)
    shuffled = rng.permutation(len(rows))
    order = similar_order(rows[shuffled] @ rows[shuffled].T)
    groups = (shuffled[order] // block).reshape(-1, block)
    assert (groups == groups[:, :1]).all()


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 33))
def test_an_order_is_a_permutation_and_repeatable(seed: int, n: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((n, 8))
    order = similar_order(rows @ rows.T)
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == similar_order(rows @ rows.T).tolist()


def test_the_odd_one_goes_last() -> None:
    rng = np.random.default_rng(5)
    pairs = np.repeat(rng.standard_normal((3, 200)), 2, axis=0) + 0.05 * rng.standard_normal((6, 200))
    rows = np.concatenate([rng.standard_normal((1, 200)), pairs])
    assert similar_order(rows @ rows.T)[-1] == 0


def test_weights_that_are_not_finite_count_for_nothing() -> None:
    with np.errstate(invalid="ignore"):
        assert not shares(np.array([[1.0, np.nan], [0.0, 1.0]], dtype=np.float32)).any()
    assert not shares(np.zeros((2, 3), dtype=np.float32)).any()
    assert np.trace(shares(np.eye(3, 4, dtype=np.float32))) == 1.0
    assert np.trace(shares(np.ones((4, 1), dtype=np.float32))) == 0.25


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(2, 33))
def test_a_strict_namespace_finds_the_same_order(seed: int, n: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((n, 40)).astype(np.float32)
    rows[1] = rows[0]  # equal similarities
    there = shares(rows, array_api_strict)
    np.testing.assert_allclose(np.asarray(there), shares(rows), atol=1e-7)
    gram = shares(rows)
    assert np.array_equal(similar_order(array_api_strict.asarray(gram), array_api_strict), similar_order(gram))


def test_nothing_counts_for_nothing_in_a_strict_namespace() -> None:
    for rows in (np.zeros((3, 4), np.float32), np.full((3, 4), np.nan, np.float32)):
        assert not np.asarray(shares(rows, array_api_strict)).any()

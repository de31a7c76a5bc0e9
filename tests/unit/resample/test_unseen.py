"""Noise that no activation sees, drawn directly, against what is left of a whole matrix of draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import array_api_strict
import numpy as np
import pytest

from bot_onnx._resample import make_options
from bot_onnx._resample.draws import stream
from bot_onnx._resample.growth import growth_matrix
from bot_onnx._resample.unseen import InBandNoise, _copies
from bot_onnx._stack.types import Axis
from tests.method_runs import concat, leaf, product, run, task

ROWS = 40_000
COPIES = make_options("bot").filters
HAAR = make_options("bot", wavelet="haar", details="in-band").filters


def noise_along(axis: Axis, *, filters: Any = COPIES, whole: bool = False, first: bool = False, xp: Any = np) -> Any:
    """Noise ``[rows, axis.target]`` along an axis, the last one or the first one of its matrix."""
    axes, directions = (leaf(ROWS, ROWS), axis), ("out", "in")
    if first:
        axes, directions = axes[::-1], directions[::-1]
    found = InBandNoise(task("matrix", axes, directions), filters)
    if whole:
        found._leaf = None
    else:
        assert found._leaf is not None
    zeros = xp.zeros(found.task.target_shape, dtype=xp.float64)
    noise = np.asarray(found.added_to(zeros, stream(1, "s", 0), 1 / found.level, xp))
    return noise.T if first else noise


def unseen(axis: Axis) -> np.ndarray:
    """I - P of a leaf."""
    if axis.law == "even":
        unit, dual = (growth_matrix("copies", axis.source, axis.target, form) for form in ("unit", "dual"))
        return np.eye(axis.target) - unit @ dual.T
    new = axis.target - axis.source
    block = np.eye(new) - (1 / new if axis.law == "means" else 0)
    return np.pad(block, ((axis.source, 0), (axis.source, 0)))


@pytest.mark.parametrize("law", ["even", "zeros", "means"])
@pytest.mark.parametrize(("n", "m"), [(3, 4), (4, 8), (3, 9), (5, 7), (2, 7), (3, 12), (1, 5)])
@pytest.mark.parametrize("first", [False, True])
def test_a_leaf_has_the_covariance_of_the_formula_both_ways(law: Any, n: int, m: int, first: bool) -> None:
    axis = replace(leaf(n, m), law=law)
    wanted = unseen(axis)
    for whole in (False, True):
        noise = noise_along(axis, first=first, whole=whole)
        assert np.abs(noise.mean(0)).max() < 5 / np.sqrt(ROWS)
        np.testing.assert_allclose(np.cov(noise.T, bias=True).reshape(m, m), wanted, atol=6 / np.sqrt(ROWS))
        np.testing.assert_allclose(noise @ (np.eye(m) - wanted), 0, atol=1e-13)


@pytest.mark.parametrize("ratio", [2, 4])
def test_haar_over_a_power_of_two_is_a_leaf_of_copies(ratio: int) -> None:
    axis = leaf(3, 3 * ratio)
    np.testing.assert_array_equal(noise_along(axis, filters=HAAR), noise_along(axis))


def test_of_a_product_one_part_has_noise() -> None:
    part = leaf(2, 3, "heads")
    axis = product(leaf(2, 2), product(part, leaf(2, 2, "head_dim")))
    wanted = np.kron(np.kron(np.eye(2), unseen(part)), np.eye(2))
    np.testing.assert_allclose(np.cov(noise_along(axis).T, bias=True), wanted, atol=6 / np.sqrt(ROWS))


def test_two_growing_parts_have_what_a_whole_matrix_leaves() -> None:
    for axis in (product(leaf(2, 4, "heads"), leaf(2, 4, "head_dim")), concat(leaf(2, 4), leaf(2, 4))):
        found = InBandNoise(task("matrix", (leaf(9, 9), axis), ("out", "in")), COPIES)
        assert found._leaf is None and found
    assert not InBandNoise(task("matrix", (leaf(9, 18), leaf(4, 4)), ("out", "in")), COPIES)


@pytest.mark.parametrize("law", ["even", "zeros", "means"])
@pytest.mark.parametrize(("n", "m"), [(4, 8), (3, 4), (2, 7)])
def test_another_namespace_makes_the_same_numbers(law: Any, n: int, m: int) -> None:
    axis = replace(leaf(n, m), law=law)
    for first in (False, True):
        np.testing.assert_array_equal(
            noise_along(axis, first=first, xp=array_api_strict), noise_along(axis, first=first)
        )


@pytest.mark.parametrize(("n", "m"), [(3, 4), (5, 12)])
@pytest.mark.parametrize("law", ["copies", "again"])
def test_copies_are_told_from_one_another(n: int, m: int, law: str) -> None:
    index = np.arange(m) % n if law == "again" else np.arange(m) * n // m
    found = [places for group in _copies(law, n, m) for places in group.T]
    assert all(len(set(index[places])) == 1 for places in found)
    told = np.sort(np.concatenate(found))
    np.testing.assert_array_equal(told, np.flatnonzero(np.bincount(index)[index] > 1))


def test_a_layer_that_two_take_is_not_written_to() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 4))
    work = task("matrix", (leaf(6, 6), leaf(4, 8)), ("out", "in"), layers=(1, 3), residual="pre-norm")
    made = run("bot", work, [weight], details="in-band")
    for layer in made:
        np.testing.assert_allclose(layer.reshape(6, 4, 2).sum(-1), weight, atol=1e-13)
    assert len({layer.tobytes() for layer in made}) == 3

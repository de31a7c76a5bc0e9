"""How a value of a grown network lies to the copies of the small one's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._proof.relation import Relation, relate

VALUES = np.random.default_rng(0).normal(size=(3, 70_000)).astype(np.float32)  # more than a block


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_copies_are_copies_up_to_rounding(dtype: type[np.floating]) -> None:
    values = VALUES.astype(dtype)
    assert relate(values, values + np.asarray(1e-6, dtype), ratios=(2,)) == Relation(1.0)


@pytest.mark.parametrize(("factor", "known"), [(2.0, True), (0.5**0.5, True), (1.5, False)])
def test_only_powers_of_the_ratios_are_multiples(factor: float, known: bool) -> None:
    found = relate(VALUES, (factor * VALUES).astype(np.float32), ratios=(2,))
    assert found.odd and found.factor == pytest.approx(factor) if known else "off by" in found.difference


def test_one_value_that_differs_is_seen_wherever_it_stands() -> None:
    for place in (0, 69_999, 140_000, VALUES.size - 1):
        grown = VALUES.copy()
        grown.reshape(-1)[place] += 1.0
        assert relate(VALUES, grown, ratios=(2,)).difference


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_must_be_so_in_both(value: float) -> None:
    def holding(values: NDArray[np.float32]) -> NDArray[np.float32]:
        held = values.copy()
        held[1, 5] = value
        return held

    assert relate(holding(VALUES), holding(VALUES), ratios=(2,)) == Relation(1.0)
    assert "elsewhere" in relate(VALUES, holding(VALUES), ratios=(2,)).difference
    assert "elsewhere" in relate(holding(VALUES), VALUES, ratios=(2,)).difference


def test_zeros_say_nothing_unless_the_other_is_not_zero() -> None:
    zeros = np.zeros_like(VALUES)
    assert relate(zeros, zeros) == Relation()
    assert "where the copies are zero" in relate(zeros, VALUES).difference


SCORES = np.random.default_rng(1).normal(size=(4, 50)).astype(np.float32)
HIDDEN = np.arange(50) % 7 == 0


@pytest.mark.parametrize("fill", [-1e4, -65504, -1e9, np.finfo(np.float32).min, 1e9])
def test_a_fill_hides_no_factor_of_what_stands_beside_it(fill: float) -> None:
    wanted = np.where(HIDDEN, np.float32(fill), SCORES)
    assert relate(wanted, wanted.copy(), ratios=(2,)) == Relation(1.0)
    found = relate(wanted, np.where(HIDDEN, np.float32(fill), 2 * SCORES), ratios=(2,))
    assert found.mixed and found.odd and found.factor == pytest.approx(2)
    assert relate(wanted, np.where(HIDDEN, np.float32(fill), SCORES + 1), ratios=(2,)).difference
    assert relate(wanted, np.where(HIDDEN, SCORES, wanted), ratios=(2,)).difference


def test_what_is_added_to_a_fill_does_not_count() -> None:
    bias = np.where(HIDDEN, np.float32(-1e4), np.float32(0))
    found = relate(SCORES + bias, 2 * SCORES + bias, ratios=(2,))
    assert found.mixed and found.factor == pytest.approx(2)


def test_fills_that_are_scaled_with_the_rest_are_a_multiple() -> None:
    wanted = np.where(HIDDEN, np.float32(-1e9), SCORES)
    assert relate(wanted, wanted / 2, ratios=(2,)) == Relation(pytest.approx(0.5))
    scaled = relate(wanted, np.where(HIDDEN, wanted / 2, wanted), ratios=(2,))
    assert scaled.mixed and scaled.factor == pytest.approx(1)


def test_a_bias_of_zeros_and_fills_is_its_copies() -> None:
    bias = np.where(HIDDEN, np.float32(-1e9), np.float32(0))
    assert relate(bias, bias.copy(), ratios=(2,)) == Relation(1.0)
    assert relate(bias, bias + np.where(HIDDEN, 0, np.float32(0.5)), ratios=(2,)).difference


@pytest.mark.parametrize("spread", [4.0, 12.0])
def test_numbers_of_all_magnitudes_have_one_scale(spread: float) -> None:
    """Nothing is filled in where magnitudes go on and on: what rounding leaves of the small ones does not count."""
    values = np.exp(np.linspace(-spread, spread, 500)).astype(np.float32)
    assert relate(values, values + values.max() * np.float32(1e-6), ratios=(2,)) == Relation(1.0)

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

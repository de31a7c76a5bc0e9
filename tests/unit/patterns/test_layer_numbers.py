"""Which numbers of layers were trained, and which follow the layer's place."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from bot_onnx._patterns.layer_numbers import continued, law_of

PLACES = np.arange(6)
FORMULAS = {
    "1 / (k + 1)": 1 / (PLACES + 1),
    "√d / (k + 1)": 0.125 / (PLACES + 1),
    "1 / √(2 (k + 1))": (2.0 * (PLACES + 1)) ** -0.5,
    "k + 1": PLACES + 1.0,
    "0.8 - 0.6 exp(-0.3 k)": 0.8 - 0.6 * np.exp(-0.3 * PLACES),
    "turns of two": np.array([0.31, 0.77] * 3),
    "turns of three": np.array([0.31, 0.77, 0.2] * 2),
}
#: What a person may choose, and what a person who makes an example up takes for trained numbers.
SERIES = {
    "√(k + 3)": (PLACES + 3.0) ** 0.5,
    "a ramp": 0.3 + 0.1 * PLACES,
    "a ramp through nothing": PLACES / 10 - 0.2,
    "a power of two": 2.0**-PLACES,
}


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_in_the_place_is_seen(formula: str, kind: type, literal: bool) -> None:
    assert law_of(FORMULAS[formula].astype(kind).astype(np.float64), literal=literal) is not None


@pytest.mark.parametrize("layers", [3, 6])
@pytest.mark.parametrize("formula", SERIES)
def test_a_series_is_one_where_exporters_write_what_is_no_weight(formula: str, layers: int) -> None:
    numbers = SERIES[formula][:layers].astype(np.float32).astype(np.float64)
    assert law_of(numbers, literal=True) is not None
    assert law_of(numbers) is None


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("formula", ["1 / (k + 1)", "√d / (k + 1)", "1 / √(2 (k + 1))", "k + 1", "turns of two"])
def test_a_formula_is_seen_in_numbers_that_were_rounded(formula: str, kind: type) -> None:
    assert law_of(FORMULAS[formula].astype(np.float32).astype(kind).astype(np.float64)) is not None


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("formula", ["1 / (k + 1)", "√d / (k + 1)", "1 / √(2 (k + 1))", "k + 1"])
def test_two_layers_show_powers_of_the_place(formula: str, layers: int) -> None:
    numbers = FORMULAS[formula][:layers].astype(np.float32).astype(np.float64)
    assert law_of(numbers) is not None and law_of(-numbers) is not None


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("layers", [4, 6, 12, 32])
def test_trained_numbers_follow_nothing(layers: int, kind: type) -> None:
    rng = np.random.default_rng(layers)
    for scale, middle in ((0.1, 0.25), (0.02, 1.0), (1.0, 0.0), (1e-4, 0.0)):
        for _ in range(50):
            numbers = (middle + scale * rng.standard_normal(layers)).astype(np.float32).astype(kind).astype(np.float64)
            assert np.ptp(numbers) == 0 or law_of(numbers) is None


@pytest.mark.parametrize(
    "numbers", [(0.25, 0.31), (0, 0.4), (0.1, -0.05), (0.3123, 0.4771, 1), (0.25, 0.25, 0.25, 0.3)]
)
def test_few_trained_numbers_follow_nothing(numbers: tuple[float, ...]) -> None:
    assert law_of(np.array(numbers, np.float32).astype(np.float64)) is None


def test_numbers_that_hardly_differ_show_nothing() -> None:
    """A slope that was trained for a step or two: one rounding apart, as a ramp is."""
    assert law_of(np.float32(1) + np.float32(2**-23) * np.arange(3).astype(np.float64)) is None


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("formula", {**FORMULAS, **SERIES})
def test_a_formula_gives_the_numbers_of_more_places(formula: str, kind: type) -> None:
    """From the first four or more layers: those of the fifth and sixth."""
    values = {**FORMULAS, **SERIES}[formula].astype(kind).astype(np.float64)
    for sign in (1, -1):
        law = law_of(sign * values[:4], literal=True)
        if formula == "turns of three":  # four numbers do not show it
            assert law is None
            continue
        assert law is not None
        found = [continued(sign * values[:4], law, place) for place in (4, 5)]
        np.testing.assert_allclose(np.array(found, np.float64), sign * values[4:], rtol=1e-5)


def test_a_number_that_would_leave_its_range_is_none() -> None:
    """A rate that falls to 0.4 in four layers would be 0 in the sixth."""
    rates = np.array([1, 0.8, 0.6, 0.4])
    law = law_of(rates, literal=True)
    assert law is not None
    assert continued(rates, law, 4) == pytest.approx(0.2)
    assert continued(rates, law, 6) is None

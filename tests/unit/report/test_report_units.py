"""Numbers for people: the unit, the rounding, and that nothing small is rounded away."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot_onnx._report import units

FACTORS = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (302154, "302.2 k"),
        (109_482_240, "109.5 M"),
        (6_738_415_616, "6.74 B"),
    ],
)
def test_counts(value: int, text: str) -> None:
    assert units.count(value) == text


@given(st.integers(0, 10**15))
def test_a_count_is_read_back_to_its_precision(value: int) -> None:
    number, _, unit = units.count(value).partition(" ")
    assert float(number) < 1000.05 or unit == "T"
    assert float(number) * FACTORS[unit] == pytest.approx(value, rel=5e-3)


def test_bytes_are_decimal() -> None:
    assert units.size(512) == "512 B"
    assert units.size(1_238_662) == "1.24 MB"
    assert units.size(999_999) == "1.00 MB"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123, "1.2 ms"),
        (0.293, "293 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 0 s"),
        (75, "1 min 15 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(4, 4, "="), (100, 25, "-75 %"), (2, 4, "+100 %"), (1, 12, "x 12"), (0, 3, "new"), (3, 0, "-100 %")],
)
def test_changes(before: float, after: float, text: str) -> None:
    assert units.change(before, after) == text


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_change_has_the_right_sign_and_is_never_nothing(before: int, after: int) -> None:
    text = units.change(before, after)
    if before == after:
        assert text == "="
    elif after > before:
        assert text.startswith(("+", "x "))
    else:
        assert text.startswith(("-", "x ")) and not re.fullmatch(r"-?0 %|-100 %", text)


def test_arrows_and_missing_numbers() -> None:
    assert units.arrow(6, 3) == "6 -> 3"
    assert units.arrow(6, 6) == "6"
    assert units.number(None) == "-"
    assert units.number(float("nan")) == "nan"
    assert units.number(0.150721, 4) == "0.1507"

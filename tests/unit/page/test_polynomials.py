"""Polynomials do what integers do, or refuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot_onnx._page.polynomials import NotPolynomialError, Polynomial

A, B = Polynomial.variable("a"), Polynomial.variable("b")


@given(st.integers(1, 50), st.integers(1, 50), st.integers(-9, 9), st.integers(1, 12))
def test_arithmetic_is_that_of_the_values(a: int, b: int, c: int, d: int) -> None:
    values = {"a": a, "b": b}
    for made, wanted in (
        (A * B + c - B, a * b + c - b),
        (c - A * A, c - a * a),
        (math.prod([3, A, B, A]), 3 * a * b * a),
        (sum([A, B, c]), a + b + c),
        ((d * A * B + c) // d, (d * a * b + c) // d),
        ((A + B) * (A - B), a * a - b * b),
    ):
        assert isinstance(made, Polynomial) and made.at(values) == wanted


def test_what_is_none_is_refused() -> None:
    for wrong in (lambda: A // 2, lambda: A // 0, lambda: max(A, B), lambda: max(A, 2), lambda: bool(A - B),
                  lambda: A * 1.5, lambda: (2 * A + B) // 2, lambda: A // B):  # fmt: skip
        with pytest.raises((NotPolynomialError, TypeError)):
            wrong()


def test_what_is_the_same_everywhere_is_decided() -> None:
    assert max(A + B, A) == A + B and max(A, A) == A and A - A == 0 and not A - A and A + 1 != A
    assert max(Polynomial.of(3), 5) == 5 and hash(A + B) == hash(B + A) and A >= A and A <= A + B

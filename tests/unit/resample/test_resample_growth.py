"""Laws of growth: operators, their left inverses, noise that they do not see, and matrices of whole axes."""

from __future__ import annotations

from dataclasses import replace

import array_api_strict
import numpy as np
import pytest

from bot_onnx._resample import axis_matrix, operator
from bot_onnx._resample.details import robust_spread
from bot_onnx._resample.growth import LAWS, grow, growth_matrix, sum_copies
from tests.method_runs import concat, leaf, product, run, task

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("law", sorted(LAWS))
@pytest.mark.parametrize(("n", "m"), [(4, 5), (4, 6), (6, 18), (8, 20)])
def test_what_contracts_undoes_what_grows(law: str, n: int, m: int) -> None:
    unit, dual = growth_matrix(law, n, m, "unit"), growth_matrix(law, n, m, "dual")
    np.testing.assert_allclose(dual.T @ unit, np.eye(n), atol=1e-12)
    x = RNG.standard_normal((3, n, 2))
    for form, matrix in (("unit", unit), ("dual", dual)):
        np.testing.assert_allclose(grow(x, law, m, form, np), matrix @ x, atol=1e-12)  # type: ignore[arg-type]
        strict = grow(array_api_strict.asarray(x), law, m, form, array_api_strict)  # type: ignore[arg-type]
        np.testing.assert_allclose(np.asarray(strict), matrix @ x, atol=1e-12)
    if law in ("copies", "again"):
        back = RNG.standard_normal((3, m, 2))
        np.testing.assert_allclose(sum_copies(back, law, n, np), unit.T @ back, atol=1e-12)


def test_copies_are_haar_over_powers_of_two_and_neighbours_elsewhere() -> None:
    haar = operator("bot", 6, 24, wavelet="haar", convention="value")
    np.testing.assert_allclose(operator("bot", 6, 24), haar, atol=1e-14)
    np.testing.assert_array_equal(operator("bot", 4, 6).argmax(1), [0, 0, 1, 2, 2, 3])
    np.testing.assert_array_equal(operator("bot", 2, 6).argmax(1), [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("law", ["zeros", "means"])
def test_noise_on_new_channels_is_seen_by_nothing(law: str) -> None:
    axis = replace(leaf(6, 10, "hidden"), law=law)
    work = task("matrix", (leaf(3, 3), axis), ("out", "in"))
    weight = RNG.standard_normal((3, 6))
    (noisy,) = run("bot", work, [weight])
    np.testing.assert_array_equal(noisy[:, :6], weight)
    assert np.abs(noisy[:, 6:]).min() > 1e-3
    if law == "means":
        np.testing.assert_allclose(noisy[:, 6:].sum(1), 0, atol=1e-12)


def test_norms_take_their_gain_with_the_offset() -> None:
    axis = replace(leaf(4, 6, "hidden"), law="means")
    (scale,) = run("bot", task("norm_scale", (axis,), ("out",), offset=1.0, gain=0.5), [np.arange(4.0)])
    np.testing.assert_allclose(scale + 1.0, 0.5 * (np.array([0, 1, 2, 3, 1.5, 1.5]) + 1.0))


def test_outliers_do_not_set_the_spread() -> None:
    weights = RNG.standard_normal((100, 50)) * 0.1
    plain = robust_spread([weights])
    assert plain == pytest.approx(weights.std(), rel=1e-3)
    weights[3, 4] = 1e3
    assert robust_spread([weights]) == pytest.approx(plain, rel=0.02)
    assert robust_spread([weights, weights * 1e4]) < 1e5
    assert robust_spread([np.zeros(5)]) == 0.0


def test_matrix_of_a_whole_axis_goes_part_by_part() -> None:
    heads, dim = leaf(2, 3, "heads"), leaf(2, 2, "head_dim")
    both = axis_matrix(product(heads, dim))
    np.testing.assert_array_equal(both, np.kron(operator("bot", 2, 3), np.eye(2)))
    joined = axis_matrix(concat(product(heads, dim), replace(leaf(2, 3), law="means")))
    assert joined.shape == (9, 6)
    np.testing.assert_array_equal(joined[:6, :4], both)
    np.testing.assert_array_equal(joined[6:, 4:], [[1, 0], [0, 1], [0.5, 0.5]])
    np.testing.assert_array_equal(axis_matrix(leaf(3, 2, "vocab")), np.eye(2, 3))


def test_uneven_head_dim_keeps_scores() -> None:
    dim = leaf(4, 6, "head_dim")
    axis = product(leaf(2, 2, "heads"), dim, score=True, head_dim=(4, 6))
    q, k = (RNG.standard_normal((8, 5)) for _ in range(2))
    big = [run("bot", task("matrix", (axis, leaf(5, 5)), ("out", "in")), [w])[0] for w in (q, k)]
    for head in range(2):
        small = q[head * 4 : head * 4 + 4].T @ k[head * 4 : head * 4 + 4] / 2.0
        large = big[0][head * 6 : head * 6 + 6].T @ big[1][head * 6 : head * 6 + 6] / np.sqrt(6)
        np.testing.assert_allclose(large, small, atol=1e-12)

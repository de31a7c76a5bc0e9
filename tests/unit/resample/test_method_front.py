"""Method ``front``: composite axes, looked-up axes, what stays, namespaces."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from bot_onnx._resample import operator
from bot_onnx.errors import ResampleError
from tests.method_runs import concat, leaf, product, run, task

RNG = np.random.default_rng(4)


def test_composite_axes_are_kronecker_and_block_diagonal() -> None:
    heads, dim = leaf(4, 2), leaf(6, 9)
    part = product(heads, dim)
    weight = RNG.standard_normal((48, 5)) + 2.0
    (got,) = run("front", task("matrix", (concat(part, part), leaf(5, 5)), ("out", "in")), [weight])
    one = np.kron(operator("front", 4, 2), operator("front", 6, 9))
    expected = np.kron(np.eye(2), one) @ (weight - weight.mean()) + weight.mean()
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_both_directions_of_a_matrix_take_the_same_operator() -> None:
    weight = RNG.standard_normal((6, 6))
    axes = (leaf(6, 4), leaf(6, 4))
    (straight,) = run("front", task("matrix", axes, ("out", "in")), [weight])
    (turned,) = run("front", task("matrix", axes, ("in", "out")), [weight.T])
    np.testing.assert_allclose(turned, straight.T, atol=1e-13)


def test_what_is_looked_up_takes_no_gain_and_tokens_are_not_mixed() -> None:
    table = RNG.standard_normal((8, 5))
    (got,) = run("front", task("table", (leaf(8, 4, "positions"), leaf(5, 5)), ("none", "out")), [table])
    expected = operator("front", 8, 4) / np.sqrt(2) @ (table - table.mean()) + table.mean()
    np.testing.assert_allclose(got, expected, atol=1e-12)
    work = task("embedding", (leaf(8, 6, "vocab"), leaf(5, 5)), ("index", "out"))
    np.testing.assert_allclose(run("front", work, [table])[0], table[:6], atol=1e-15)


def test_nothing_changes_where_no_size_does() -> None:
    weight = RNG.standard_normal((3, 4)).astype(np.float32)
    work = task("matrix", (leaf(3, 3), leaf(4, 4)), ("out", "in"))
    np.testing.assert_array_equal(run("front", work, [weight])[0], weight)
    ids = np.arange(3)
    np.testing.assert_array_equal(run("front", task("other", (leaf(3, 3),), ("none",)), [ids])[0], ids)
    with pytest.raises(ResampleError, match="its values are int64"):
        run("front", task("bias", (leaf(3, 6),), ("out",)), [ids])


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constants_stay(value: float) -> None:
    work = task("norm_scale", (leaf(6, 10),), ("out",), layers=(2, 5))
    for out in run("front", work, np.full((2, 6), value), depth="consistence"):
        np.testing.assert_allclose(out, value, atol=1e-14)


@pytest.mark.parametrize("depth", ["zero", "random", "consistence", "repeat"])
@pytest.mark.parametrize(("layers", "axes"), [((2, 5), (leaf(4, 6), leaf(6, 4))), ((4, 2), (leaf(4, 3), leaf(6, 5)))])
def test_strict_namespace_gives_the_same(depth: str, layers: tuple[int, int], axes: tuple) -> None:
    arrays = RNG.standard_normal((layers[0], 4, 6)).astype(np.float32)
    work = task("matrix", axes, ("out", "in"), layers=layers)
    reference = run("front", work, arrays, depth=depth)
    strict = run("front", work, [array_api_strict.asarray(x) for x in arrays], xp=array_api_strict, depth=depth)
    assert len(reference) == layers[1]
    for a, b in zip(reference, strict, strict=True):
        assert a.dtype == np.float32
        assert tuple(b.shape) == a.shape == work.target_shape
        np.testing.assert_allclose(np.asarray(b), a, atol=1e-5)

"""Method ``ws``: which weights and layers are kept, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._resample import operator
from bot_onnx.errors import ResampleError
from tests.method_runs import concat, leaf, product, run, task

RNG = np.random.default_rng(1)


def test_elements_are_evenly_spaced_along_every_axis() -> None:
    weight = RNG.standard_normal((12, 10))
    (got,) = run("ws", task("matrix", (leaf(12, 4), leaf(10, 5)), ("out", "in")), [weight])
    np.testing.assert_array_equal(got, weight[::3, ::2])
    (got,) = run("ws", task("matrix", (leaf(12, 5), leaf(10, 10)), ("out", "in")), [weight])
    np.testing.assert_array_equal(got, weight[[0, 3, 6, 8, 11]])  # no whole ratio: from the first to the last


def test_composite_axes_go_part_by_part() -> None:
    fused = np.arange(3 * 4 * 6.0)
    part = product(leaf(4, 2), leaf(6, 3))
    (got,) = run("ws", task("bias", (concat(part, part, part),), ("out",)), [fused])
    np.testing.assert_array_equal(got, fused.reshape(3, 4, 6)[:, ::2, ::2].reshape(-1))


def test_what_is_looked_up_keeps_its_first_indices() -> None:
    table = RNG.standard_normal((10, 8))
    for role in ("vocab", "positions"):
        work = task("embedding", (leaf(10, 5, role), leaf(8, 4)), ("index", "out"))
        np.testing.assert_array_equal(run("ws", work, [table])[0], table[:5, ::2])


def test_layers_are_the_first_or_evenly_spaced() -> None:
    layers = [np.full(4, float(k)) for k in range(6)]
    work = task("bias", (leaf(4, 2),), ("out",), layers=(6, 3))
    assert [out[0] for out in run("ws", work, layers)] == [0, 1, 2]
    assert [out[0] for out in run("ws", work, layers, layer_axis="even")] == [0, 2, 4]


def test_integers_pass_where_nothing_changes_and_dtypes_stay() -> None:
    values = np.arange(4)
    np.testing.assert_array_equal(run("ws", task("other", (leaf(4, 4),), ("none",)), [values])[0], values)
    (got,) = run("ws", task("bias", (leaf(4, 2),), ("out",)), [values.astype(np.float32)])
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    ("axes", "layers", "message"),
    [
        ((leaf(4, 8, "hidden"), leaf(4, 2)), (1, 1), r"axis 0 \(hidden\) grows from 4 to 8, and method 'ws'"),
        ((leaf(4, 4), product(leaf(4, 2, "heads"), leaf(4, 8, "head_dim"))), (1, 1), r"axis 1 \(head_dim\) grows"),
        ((leaf(4, 2), leaf(4, 4)), (2, 4), "number of layers grows from 2 to 4"),
    ],
)
def test_growing_is_refused_by_name(axes: tuple, layers: tuple[int, int], message: str) -> None:
    source = [np.ones((4, 16 if axes[1].kind == "product" else 4))] * layers[0]
    with pytest.raises(ResampleError, match=message + ".*can only shrink; to grow use method 'bot'|" + message):
        run("ws", task("matrix", axes, ("out", "in"), layers=layers), source)


def test_operator_has_one_entry_a_row() -> None:
    np.testing.assert_array_equal(operator("ws", 4, 2), [[1, 0, 0, 0], [0, 0, 1, 0]])
    with pytest.raises(ResampleError, match="cannot make 4 indices of 2"):
        operator("ws", 2, 4)

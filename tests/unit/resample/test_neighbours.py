"""Growing by copies along all axes at once gives the bits of growing axis by axis."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest

from bot_onnx._resample import neighbours, width
from bot_onnx._resample.neighbours import copy_along_all, copy_neighbours
from bot_onnx._resample.operators import Filters
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import Axis
from tests.method_runs import leaf, product, task

RNG = np.random.default_rng(3)
HAAR, COPIES = Filters("haar", "haar"), Filters("haar", "copies")


@pytest.mark.parametrize("blocks", [(2,), (2, 2), (3, 1, 2), (1, 2, 1), (2, 3, 1, 2), (1, 1)])
@pytest.mark.parametrize("tile", [1, 40, 1 << 16])
@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_all_axes_at_once(blocks: tuple[int, ...], tile: int, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    x = RNG.standard_normal((5, 3, 4, 6)[: len(blocks)])
    out = np.full([n * block for n, block in zip(x.shape, blocks, strict=True)], np.nan)
    copy_along_all(x, blocks, [0.7, 1.1], out)
    wanted = x
    for axis, block in enumerate(blocks):
        wanted = np.repeat(wanted, block, axis=axis)
    np.testing.assert_array_equal(out, wanted * 0.7 * 1.1)


@pytest.mark.parametrize("filters", [HAAR, COPIES])
@pytest.mark.parametrize("convention", [None, "ortho", "value"])
@pytest.mark.parametrize(
    "axes",
    [
        (leaf(4, 8), leaf(6, 12)),
        (leaf(4, 16), leaf(6, 6), leaf(3, 6)),
        (leaf(4, 16), leaf(6, 12), leaf(3, 6)),
        (product(leaf(2, 4, "heads"), leaf(3, 3, "head_dim")), leaf(5, 10), leaf(4, 8)),
        (leaf(4, 6), leaf(5, 10), leaf(4, 8)),
        (leaf(8, 4), leaf(5, 10), leaf(4, 8)),
    ],
)
def test_a_transform_has_the_bits_of_its_axes_one_by_one(axes: tuple[Axis, ...], convention: Any, filters: Any) -> None:
    work = task("matrix", axes, ("out", "out", "in")[-len(axes) :])
    transform = WidthTransform(work, filters, convention)
    x = RNG.standard_normal(work.source_shape).astype(np.float32)
    strict = np.asarray(transform.apply(array_api_strict.asarray(x), array_api_strict))
    if axes[0].target % axes[0].source and filters is HAAR:  # a DCT resize is a product of matrices
        np.testing.assert_allclose(transform.apply(x, np), strict, atol=1e-5)
    else:
        np.testing.assert_array_equal(transform.apply(x, np), strict)


def test_every_number_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def counted(x: Any, blocks: Any, gains: Any, out: Any) -> None:
        calls.append(out.shape)
        copy_along_all(x, blocks, gains, out)

    monkeypatch.setattr(width, "copy_along_all", counted)
    work = task("matrix", (leaf(4, 8), leaf(6, 12), leaf(3, 6)), ("out", "out", "in"))
    x = RNG.standard_normal(work.source_shape)
    made = WidthTransform(work, HAAR).apply(x, np)
    assert calls == [(8, 12, 6)]
    grown = copy_neighbours(x.reshape(1, 4, 18), 2, "unit", np).reshape(8, 6, 3)
    grown = copy_neighbours(grown, 2, "unit", np)
    np.testing.assert_array_equal(made, np.repeat(grown, 2, axis=2) * 0.5)  # what is contracted has its share

"""A matrix of one number averages where that is 1/n, and sums where it is 1; zeros are a weight that begins there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bot_onnx
from bot_onnx._patterns.closed_forms import compute
from tests.graphs import GraphBuilder, save


def form_of(kind: str, shape: tuple[int, ...], value: float, folder: Path, dtype: type = np.float32) -> str | None:
    """Closed form of a matrix (or pointwise kernel) of one number that 16 channels are multiplied with."""
    b = GraphBuilder()
    image = (1, 1) if kind == "Conv" else ()
    x = b.op(kind, "x", *((b.weight(16, 6, *image),) if image else (b.weight(6, 16),)))
    held = b.constant(np.full((*shape, *image), value, dtype), "held")
    held = held if dtype is np.float32 else b.op("Cast", held, to=1)
    out = b.op(kind, x, held)
    model = b.model([("x", ["batch", 6, *(4,) * len(image)])], [out], rank=2 + len(image))
    found = bot_onnx.inspect(save(model, folder)).structure.stacks
    return next(stack.closed_form for stack in found if stack.tensors == ("held",))


@pytest.mark.parametrize(("kind", "shape", "axis"), [("MatMul", (16, 3), 0), ("Conv", (3, 16), 1)])
def test_it_tells_by_its_number(kind: str, shape: tuple[int, ...], axis: int, tmp_path: Path) -> None:
    assert form_of(kind, shape, 1 / 16, tmp_path) == f"mean:{axis}"
    assert form_of(kind, shape, 1.0, tmp_path) == "constant:1"
    assert form_of(kind, shape, 0.5, tmp_path) is None
    assert form_of(kind, shape, 0.0, tmp_path) is None


def test_half_precision_rounds_it(tmp_path: Path) -> None:
    assert form_of("MatMul", (16, 3), 1 / 16, tmp_path, np.float16) == "mean:0"


def test_it_is_one_over_what_it_is_taken_over() -> None:
    assert np.array_equal(compute("mean:0", (5, 2), np.dtype(np.float64)), np.full((5, 2), 1 / 5))
    assert np.array_equal(compute("mean:1,2", (5, 2, 3), np.dtype(np.float64)), np.full((5, 2, 3), 1 / 6))

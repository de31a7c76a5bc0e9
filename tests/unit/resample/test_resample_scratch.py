"""Method ``scratch``: distributions, constants and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bot_onnx._resample import get_method, make_options
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError


def task(kind: str, shape: tuple[int, ...], **more: Any) -> StackTask:
    directions = ("out", "in", *("none",) * 2)[: len(shape)]
    axes = tuple(
        Axis("leaf", 2 * size if way != "none" else size, size) for size, way in zip(shape, directions, strict=True)
    )
    return StackTask("s1", "w", kind, axes, directions, **more)  # type: ignore[arg-type]


def run(work: StackTask, seed: int = 0, dtype: str = "float32", **options: Any) -> list[np.ndarray]:
    source = [lambda: np.ones(work.source_shape, dtype)] * work.layers[0]
    return list(get_method("scratch").resample(work, source, make_options("scratch", **options), xp=np, seed=seed))


def test_matrices_are_normal_and_writers_are_scaled() -> None:
    plain = run(task("matrix", (200, 300)))[0]
    assert plain.shape == (200, 300)
    assert plain.dtype == np.float32
    assert abs(plain.std() / 0.02 - 1) < 0.02
    assert abs(plain.mean()) < 5e-4
    writer = run(task("matrix", (200, 300), writes_residual=True, residual="pre-norm", total_layers=(12, 8)))[0]
    np.testing.assert_allclose(writer, plain / 4, rtol=1e-6)  # sqrt(2 * 8)
    post = run(task("matrix", (200, 300), writes_residual=True, residual="post-norm", total_layers=(12, 8)))[0]
    np.testing.assert_array_equal(post, plain)


def test_truncation_stops_at_two_sigma() -> None:
    draws = run(task("embedding", (500, 100)), std=0.1, truncated=True)[0]
    assert np.abs(draws).max() <= 0.2
    assert np.abs(draws).max() > 0.19
    assert np.abs(run(task("embedding", (500, 100)), std=0.1)[0]).max() > 0.3


def test_kernels_take_their_fan_in() -> None:
    kernel = run(task("kernel", (64, 32, 3, 3)))[0]
    assert abs(kernel.std() / np.sqrt(2 / (32 * 9)) - 1) < 0.03


@pytest.mark.parametrize(("kind", "value"), [("bias", 0), ("norm_bias", 0), ("norm_scale", 1), ("scale", 1)])
def test_constants(kind: str, value: int) -> None:
    for out in run(task(kind, (10,), layers=(2, 3), total_layers=(2, 3)), dtype="float64"):
        np.testing.assert_array_equal(out, np.full(10, value))
        assert out.dtype == np.float64


def test_draws_depend_on_seed_and_layer_alone() -> None:
    three, two = task("matrix", (4, 5), layers=(1, 3)), task("matrix", (4, 5), layers=(1, 2))
    first, second = run(three), run(two)
    for a, b in zip(first, second, strict=False):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], run(three, seed=1)[0])


def test_unknown_tensors_pass_or_are_refused() -> None:
    same = StackTask("s2", "mask", "other", (Axis("leaf", 4, 4),), ("none",))
    np.testing.assert_array_equal(run(same)[0], np.ones(4))
    with pytest.raises(ResampleError, match="not known"):
        run(task("other", (4,)))

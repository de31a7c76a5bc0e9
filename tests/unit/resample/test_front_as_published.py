"""Method ``front --preset published`` against FRONT's formula written out: cosines that are not normalised."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest

from bot_onnx._resample import make_options, operator
from bot_onnx.errors import ResampleError
from tests.method_runs import concat, leaf, product, run, task

RNG = np.random.default_rng(31)
Floats = np.ndarray


def forward(x: Floats, axis: int) -> Floats:
    """X_r = 2 Σ_i x_i cos(π r (i + ½) / n)."""
    n = x.shape[axis]
    cosines = 2 * np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n)
    return np.moveaxis(np.tensordot(cosines, x, (1, axis)), 0, axis)


def inverse(spectrum: Floats, axis: int) -> Floats:
    """x_i = (X_0 / 2 + Σ_{r>0} X_r cos(π r (i + ½) / m)) / m."""
    m = spectrum.shape[axis]
    cosines = np.cos(np.pi * np.arange(m) * (np.arange(m)[:, None] + 0.5) / m) / m
    cosines[:, 0] /= 2
    return np.moveaxis(np.tensordot(cosines, spectrum, (1, axis)), 0, axis)


def published(stack: Floats, shape: tuple[int, ...], depth: str = "zero", keep_ratio: float = 1.0) -> Floats:
    """[layers, …] of the source to ``shape``, step by step."""
    mean, std = (np.array([getattr(layer, name)() for layer in stack]) for name in ("mean", "std"))
    column = (slice(None), *(None,) * (stack.ndim - 1))
    spectrum = (stack - mean[column]) / std[column]
    for axis in range(stack.ndim):
        spectrum = forward(spectrum, axis)
    for axis, size in enumerate(shape):
        kept = max(1, int(keep_ratio * stack.shape[axis]))
        low = np.take(spectrum, range(kept), axis)
        if size <= kept:
            spectrum = np.take(low, range(size), axis)
        elif axis or depth == "zero":
            spectrum = np.pad(low, [(0, size - kept if i == axis else 0) for i in range(stack.ndim)])
        elif depth == "repeat":
            spectrum = low[np.arange(size) % kept]
        else:
            spectrum = low[[r * kept // size for r in range(size)]]
    for axis in range(stack.ndim):
        spectrum = inverse(spectrum, axis)
    own = [min(k, len(stack) - 1) for k in range(shape[0])]
    return spectrum * std[own][column] + mean[own][column]


def resize(stack: Floats, shape: tuple[int, ...], **options: Any) -> Floats:
    axes = tuple(leaf(s, t) for s, t in zip(stack.shape[1:], shape[1:], strict=True))
    work = task("matrix" if len(axes) == 2 else "bias", axes, ("out", "in")[: len(axes)], layers=(len(stack), shape[0]))
    return np.stack(run("front", work, stack, preset="published", **options))


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((4, 12, 16), (2, 6, 8)),
        ((2, 6, 8), (5, 11, 9)),
        ((4, 12, 8), (2, 6, 16)),
        ((1, 5, 7), (1, 4, 9)),
        ((3, 6, 8), (3, 6, 8)),
        ((4, 12), (3, 20)),
    ],
)
def test_it_is_the_formula(source: tuple[int, ...], target: tuple[int, ...], keep_ratio: float) -> None:
    stack = RNG.standard_normal(source) * RNG.uniform(0.1, 2, source[0]).reshape(-1, *(1,) * (len(source) - 1)) + 0.3
    got = resize(stack, target, keep_ratio=keep_ratio)
    np.testing.assert_allclose(got, published(stack, target, keep_ratio=keep_ratio), atol=1e-10)
    single = resize(stack.astype(np.float32), target, keep_ratio=keep_ratio)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, got, atol=1e-5)


@pytest.mark.parametrize("depth", ["consistence", "repeat"])
@pytest.mark.parametrize("target", [(6, 3, 8), (7, 9, 5), (2, 6, 4)])
@pytest.mark.parametrize("keep_ratio", [1.0, 0.67])
def test_frequencies_over_layers(depth: str, target: tuple[int, ...], keep_ratio: float) -> None:
    stack = RNG.standard_normal((3, 6, 8)) + 0.5
    got = resize(stack, target, depth=depth, keep_ratio=keep_ratio)
    np.testing.assert_allclose(got, published(stack, target, depth, keep_ratio), atol=1e-10)


def test_every_kept_frequency_is_repeated_in_a_block() -> None:
    """3 -> 6 layers: spectra 0 0 1 1 2 2."""
    stack = RNG.standard_normal((3, 40))
    grown = resize(stack, (6, 40), depth="consistence")
    column = (slice(None), None)
    own = [0, 1, 2, 2, 2, 2]
    standard = (grown - stack.mean(1)[own][column]) / stack.std(1)[own][column]
    before = forward((stack - stack.mean(1)[column]) / stack.std(1)[column], 0)
    np.testing.assert_allclose(forward(standard, 0), before[[0, 0, 1, 1, 2, 2]], atol=1e-10)


@pytest.mark.parametrize(("n", "m"), [(64, 32), (32, 64), (60, 48)])
def test_gains_of_smooth_and_of_white(n: int, m: int) -> None:
    matrix = operator("front", n, m, preset="published")
    np.testing.assert_allclose(matrix @ np.ones(n), n / m, atol=1e-12)
    smooth = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    np.testing.assert_allclose(matrix @ smooth, n / m * np.cos(np.pi * (np.arange(m) + 0.5) / m), atol=1e-12)
    white = np.square(matrix).sum(1).mean()  # variance of what white noise becomes
    np.testing.assert_allclose(white, n / m * min(n, m) / m, rtol=1e-9)


def test_random_frequencies_are_at_the_level_of_the_others() -> None:
    stack = RNG.standard_normal((3, 60, 60)) * 0.2 + 1.0
    grown = resize(stack, (9, 60, 60), depth="random")
    spectrum = forward((grown - stack.mean((1, 2))[[0, 1, *[2] * 7]][:, None, None]) / 0.2, 0)
    assert 0.9 < spectrum[3:].std() / spectrum[1:3].std() < 1.1
    assert not np.allclose(grown, np.stack(resize(stack, (9, 60, 60))))


def test_axes_are_the_tensors_own() -> None:
    """Heads are no axes of their own; queries, keys and values are one; gates and values are two."""
    weight = RNG.standard_normal((48, 5))
    part = product(leaf(4, 2, "heads"), leaf(4, 4, "head_dim"), score=True, head_dim=(4, 4))
    fused = concat(part, part, product(leaf(4, 2, "heads"), leaf(4, 4, "head_dim")))
    (got,) = run("front", task("matrix", (fused, leaf(5, 5)), ("out", "in")), [weight], preset="published")
    np.testing.assert_allclose(got, published(weight[None], (1, 24, 5))[0], atol=1e-10)
    gates = concat(leaf(24, 12), leaf(24, 12))
    (got,) = run("front", task("matrix", (gates, leaf(5, 5)), ("out", "in")), [weight], preset="published")
    matrix = np.kron(np.eye(2), operator("front", 24, 12, preset="published"))
    np.testing.assert_allclose(got, matrix @ (weight - weight.mean()) + weight.mean(), atol=1e-10)


def test_constants_stay_and_tokens_are_not_mixed() -> None:
    work = task("norm_scale", (leaf(6, 10),), ("out",), layers=(2, 5))
    for out in run("front", work, np.full((2, 6), 3.0), preset="published", depth="consistence"):
        np.testing.assert_allclose(out, 3.0, atol=1e-14)
    table = RNG.standard_normal((8, 5))
    work = task("embedding", (leaf(8, 6, "vocab"), leaf(5, 5)), ("index", "out"))
    np.testing.assert_allclose(run("front", work, [table], preset="published")[0], table[:6], atol=1e-14)
    ids = np.arange(3)
    same = run("front", task("other", (leaf(3, 3),), ("none",)), [ids], preset="published")
    np.testing.assert_array_equal(same[0], ids)


def test_strict_namespace_gives_the_same() -> None:
    arrays = RNG.standard_normal((2, 4, 6)).astype(np.float32)
    work = task("matrix", (leaf(4, 6), leaf(6, 3)), ("out", "in"), layers=(2, 5))
    for depth in ("zero", "random"):
        plain = run("front", work, arrays, preset="published", depth=depth)
        strict = [array_api_strict.asarray(x) for x in arrays]
        for a, b in zip(
            plain, run("front", work, strict, xp=array_api_strict, preset="published", depth=depth), strict=True
        ):
            np.testing.assert_allclose(np.asarray(b), a, atol=1e-5)


def test_a_ratio_without_the_preset_is_refused() -> None:
    with pytest.raises(ResampleError, match="keep_ratio is of preset 'published'"):
        make_options("front", keep_ratio=0.5)

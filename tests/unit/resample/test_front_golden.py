"""Method ``front`` against SciPy's orthonormal DCT-II: cut or padded spectra of the standardised stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.fft import dct, dctn, idctn

from bot_onnx._resample import get_method, make_options, operator
from bot_onnx._stack.types import Axis, StackTask

RNG = np.random.default_rng(23)
SHAPES = [
    ((4, 12, 16), (2, 6, 8)),
    ((4, 12, 16), (3, 7, 5)),
    ((2, 6, 8), (4, 12, 16)),
    ((2, 6, 8), (5, 11, 9)),
    ((4, 12, 8), (2, 6, 16)),
    ((2, 12, 8), (4, 6, 16)),
    ((3, 5, 7), (3, 10, 7)),
    ((1, 5, 7), (1, 4, 9)),
]


def fit(spectrum: np.ndarray, shape: tuple[int, ...], fill: str = "constant") -> np.ndarray:
    """Cut every axis to ``shape`` or pad it: axis 0 as ``fill`` says, the others with zeros."""
    for axis, size in enumerate(shape):
        spectrum = np.take(spectrum, range(min(size, spectrum.shape[axis])), axis)
        widths = [(0, size - n if i == axis else 0) for i, n in enumerate(spectrum.shape)]
        spectrum = np.pad(spectrum, widths, fill if axis == 0 else "constant")  # type: ignore[call-overload]
    return spectrum


def reference(stack: np.ndarray, shape: tuple[int, ...], fill: str = "constant") -> np.ndarray:
    mean, std = stack.mean(), stack.std()
    return idctn(fit(dctn((stack - mean) / std, norm="ortho"), shape, fill), norm="ortho") * std + mean


def resize(stack: np.ndarray, shape: tuple[int, ...], seed: int = 0, **options: Any) -> np.ndarray:
    axes = tuple(Axis("leaf", s, t) for s, t in zip(stack.shape[1:], shape[1:], strict=True))
    kind = "matrix" if len(axes) == 2 else "bias"
    work = StackTask("s0", "w", kind, axes, ("out", "in")[: len(axes)], layers=(stack.shape[0], shape[0]))  # type: ignore[arg-type]
    source = [lambda layer=layer: layer for layer in stack]
    method = get_method("front")
    return np.stack(list(method.resample(work, source, make_options("front", **options), xp=np, seed=seed)))


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_zero_padding_and_truncation(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    stack = RNG.standard_normal(source) * 0.3 + 0.1
    expected = reference(stack, target)
    np.testing.assert_allclose(resize(stack, target), expected, atol=1e-12, rtol=0)
    single = resize(stack.astype(np.float32), target)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5, rtol=0)
    biases = stack[:, :, 0] + 3.0
    np.testing.assert_allclose(resize(biases, target[:2]), reference(biases, target[:2]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("depth", "fill"), [("zero", "constant"), ("consistence", "edge"), ("repeat", "wrap")])
@pytest.mark.parametrize("target", [(4, 6, 8), (7, 9, 5), (6, 3, 8), (2, 3, 4)])
def test_depth_modes_fill_the_frequencies_over_layers(depth: str, fill: str, target: tuple[int, ...]) -> None:
    stack = RNG.standard_normal((3, 6, 8))
    expected = reference(stack, target, fill if target[0] > 3 else "constant")
    np.testing.assert_allclose(resize(stack, target, depth=depth), expected, atol=1e-12, rtol=0)


def test_random_depth_keeps_the_low_frequencies_and_fills_the_others_at_the_weights_level() -> None:
    stack = RNG.standard_normal((3, 40, 40)) * 0.2 + 1.0
    grown = resize(stack, (8, 40, 40), depth="random")
    spectrum = dct(grown - stack.mean(), axis=0, norm="ortho")
    np.testing.assert_allclose(spectrum[:3], dct(stack - stack.mean(), axis=0, norm="ortho"), atol=1e-12)
    for added in spectrum[3:]:
        assert abs(added.std() / stack.std() - 1) < 0.08
    assert not np.allclose(grown, resize(stack, (8, 40, 40), depth="random", seed=1))
    np.testing.assert_array_equal(grown, resize(stack, (8, 40, 40), depth="random"))


@pytest.mark.parametrize(("n", "m"), [(8, 4), (8, 5), (5, 8), (1, 4), (4, 1), (6, 6)])
def test_operator_is_the_fitted_transform_of_the_identity(n: int, m: int) -> None:
    spectrum = np.zeros((m, n))
    spectrum[: min(n, m)] = dct(np.eye(n), axis=0, norm="ortho")[: min(n, m)]
    expected = idctn(spectrum, axes=0, norm="ortho")
    for way in ("out", "in"):
        np.testing.assert_allclose(operator("front", n, m, direction=way), expected, atol=1e-12)  # type: ignore[arg-type]

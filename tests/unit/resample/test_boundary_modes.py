"""Boundary modes of method ``bot`` against PyWavelets' own transforms, cropped to the exact size."""

from __future__ import annotations

import warnings
from typing import get_args

import numpy as np
import pytest
import pywt

from bot_onnx._resample import get_method, make_options, operator
from bot_onnx._resample.boundary import BoundaryMode
from bot_onnx._stack.types import Axis, StackTask

WAVELETS = pywt.wavelist(kind="discrete")
MODES = [mode for mode in get_args(BoundaryMode) if mode != "periodization"]
TOLERANCE = 1e-12


def middle(x: np.ndarray, size: int) -> np.ndarray:
    start = (x.shape[0] - size) // 2
    return x[start : start + size]


def low_band(x: np.ndarray, wavelet: str, mode: str, level: int) -> np.ndarray:
    for _ in range(level):
        x = pywt.dwt(x, wavelet, mode=mode, axis=0)[0]
    return x


def inverse(x: np.ndarray, wavelet: str, mode: str, level: int) -> np.ndarray:
    """The inverse of the approximation continued beyond its ends by ``pywt.pad``."""
    taps = pywt.Wavelet(wavelet).dec_len
    if taps > 2:
        x = np.apply_along_axis(lambda column: pywt.pad(column, taps // 2 - 1, mode), 0, x)
    for _ in range(level):
        x = pywt.idwt(x, None, wavelet, mode=mode, axis=0)
    return x


def test_every_mode_of_pywavelets_is_an_option() -> None:
    assert set(get_args(BoundaryMode)) == set(pywt.Modes.modes)
    for mode in pywt.Modes.modes:
        assert make_options("bot", mode=mode).model_dump()["mode"] == mode


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_shrinking_is_the_low_band_cropped(wavelet: str) -> None:
    for mode in MODES:
        for n, level in ((10, 1), (7, 1), (12, 2), (16, 3)):
            m = -(-n // 2**level)
            expected = middle(low_band(np.eye(n), wavelet, mode, level), m)
            got = operator("bot", n, m, wavelet=wavelet, mode=mode, convention="value")
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(got * 2 ** (level / 2), expected, atol=TOLERANCE * scale, rtol=0)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_growing_is_the_inverse_cropped(wavelet: str) -> None:
    for mode in MODES:
        for n, level in ((6, 1), (5, 2), (4, 3)):
            expected = middle(inverse(np.eye(n), wavelet, mode, level), n << level)
            got = operator("bot", n, n << level, wavelet=wavelet, mode=mode, convention="value")
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(got / 2 ** (level / 2), expected, atol=TOLERANCE * scale, rtol=0)


def resize(weights: np.ndarray, target: tuple[int, int], **options: object) -> np.ndarray:
    axes = tuple(Axis("leaf", s, t) for s, t in zip(weights.shape[1:], target, strict=True))
    task = StackTask("s0", "w", "matrix", axes, ("out", "in"), layers=(len(weights), len(weights)))
    source = [lambda layer=layer: layer for layer in weights]
    method = get_method("bot")
    return np.stack(list(method.resample(task, source, make_options("bot", **options), xp=np, seed=0)))


@pytest.mark.parametrize("mode", [*MODES, "periodization"])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif1", "bior6.8", "rbio3.3"])
def test_ortho_stack_is_wavedecn_and_waverecn(wavelet: str, mode: str) -> None:
    weights = np.random.default_rng(3).standard_normal((2, 24, 40))
    options = {"wavelet": wavelet, "mode": mode, "convention": "ortho"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyWavelets warns that short signals consist of boundary
        for level in (1, 2, 3):
            size = 24 >> level, 40 >> level
            low = pywt.wavedecn(weights, wavelet, mode=mode, level=level, axes=(1, 2))[0]
            low = np.moveaxis(middle(np.moveaxis(low, 1, 0), size[0]), 0, 1)
            expected = np.moveaxis(middle(np.moveaxis(low, 2, 0), size[1]), 0, 2)
            np.testing.assert_allclose(resize(weights, size, **options), expected, atol=1e-11, rtol=0)
            single = resize(weights.astype(np.float32), size, **options)
            np.testing.assert_allclose(single, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
            assert single.dtype == np.float32
    beyond = 0 if mode == "periodization" else pywt.Wavelet(wavelet).dec_len // 2 - 1
    small = weights[:, :6, :10]
    longer = small
    for axis in (1, 2):
        if beyond:
            longer = np.apply_along_axis(lambda row: pywt.pad(row, beyond, mode), axis, longer)
    for level in (1, 2):
        grown = pywt.waverecn([longer, *[{}] * level], wavelet, mode=mode, axes=(1, 2))
        grown = np.moveaxis(middle(np.moveaxis(grown, 1, 0), 6 << level), 0, 1)
        grown = np.moveaxis(middle(np.moveaxis(grown, 2, 0), 10 << level), 0, 2)
        np.testing.assert_allclose(resize(small, (6 << level, 10 << level), **options), grown, atol=1e-11, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_growing_by_value_is_read_back(mode: str) -> None:
    """(rho R~)ᵀ R = I in every mode, at every level limit, whether the ratio is a power of two or not."""
    for wavelet, n, m, level in (("db4", 16, 32, None), ("bior4.4", 12, 48, 1), ("coif2", 16, 24, None)):
        options = {"wavelet": wavelet, "mode": mode, "level": level, "convention": "value"}
        out, into = (operator("bot", n, m, direction=way, **options) for way in ("out", "in"))  # type: ignore[arg-type]
        np.testing.assert_allclose(into.T @ out, np.eye(n), atol=1e-8)


def test_level_limits_the_transform_and_the_dct_does_the_rest() -> None:
    for wavelet in ("haar", "db3"):
        limited = {"wavelet": wavelet, "convention": "value", "level": 1}
        plain = {"wavelet": wavelet, "convention": "value"}
        half = operator("bot", 32, 16, **plain)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            operator("bot", 32, 8, **limited),  # type: ignore[arg-type]
            operator("front", 16, 8) / np.sqrt(2) @ half,
            atol=TOLERANCE,
        )
        double = operator("bot", 8, 16, **plain)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            operator("bot", 8, 32, **limited),  # type: ignore[arg-type]
            operator("front", 16, 32) * np.sqrt(2) @ double,
            atol=TOLERANCE,
        )
        for n, m in ((32, 16), (16, 32), (30, 20)):  # a limit that does not bind changes nothing
            np.testing.assert_array_equal(
                operator("bot", n, m, wavelet=wavelet, level=5), operator("bot", n, m, wavelet=wavelet)
            )

"""The operators against PyWavelets' own transforms, mode ``periodization``, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import pywt

from bot_onnx._resample import get_method, make_options, operator
from bot_onnx._resample.depth import layer_matrix
from bot_onnx._resample.operators import LeafOperator
from bot_onnx._stack.types import Axis, StackTask

WAVELETS = pywt.wavelist(kind="discrete")
SIZES = (2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 21, 32, 45, 63, 64)
TOLERANCE = 1e-12


def low_band(x: np.ndarray, wavelet: str, level: int) -> np.ndarray:
    for _ in range(level):
        x = pywt.dwt(x, wavelet, mode="periodization", axis=0)[0]
    return x


def inverse(x: np.ndarray, wavelet: str, level: int) -> np.ndarray:
    for _ in range(level):
        x = pywt.idwt(x, None, wavelet, mode="periodization", axis=0)
    return x


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_shrinking_is_the_low_band(wavelet: str) -> None:
    for n in SIZES:
        for level in (1, 2, 3):
            expected = low_band(np.eye(n), wavelet, level)
            m = expected.shape[0]
            if -(-n // 2 ** (level - 1)) == 1:
                continue  # the size was reached at a level before
            got = operator("bot", n, m, wavelet=wavelet, convention="value")
            np.testing.assert_allclose(got, expected / 2 ** (level / 2), atol=TOLERANCE, rtol=0)
            ortho = operator("bot", n, m, wavelet=wavelet, convention="ortho", direction="in")
            np.testing.assert_allclose(ortho, got * np.sqrt(n / m), atol=TOLERANCE, rtol=0)
            if n == m << level:
                np.testing.assert_allclose(ortho, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_growing_is_the_inverse_with_zero_details(wavelet: str) -> None:
    for n in (1, *SIZES[:12]):
        for level in (1, 2, 3):
            expected = inverse(np.eye(n), wavelet, level)
            got = operator("bot", n, n << level, wavelet=wavelet, convention="value")
            np.testing.assert_allclose(got, expected * 2 ** (level / 2), atol=TOLERANCE * 4, rtol=0)
            ortho = operator("bot", n, n << level, wavelet=wavelet, convention="ortho", direction="in")
            np.testing.assert_allclose(ortho, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_dual_operator_is_the_other_half_of_the_bank(wavelet: str) -> None:
    for n in (4, 6, 16):
        for level in (1, 2):
            up = operator("bot", n, n << level, wavelet=wavelet, convention="value", direction="in")
            expected = low_band(np.eye(n << level), wavelet, level).T / 2 ** (level / 2)
            np.testing.assert_allclose(up, expected, atol=TOLERANCE, rtol=0)
            down = operator("bot", n << level, n, wavelet=wavelet, convention="value", direction="in")
            expected = inverse(np.eye(n), wavelet, level).T * 2 ** (level / 2)
            np.testing.assert_allclose(down, expected, atol=TOLERANCE * 4, rtol=0)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym8", "coif3", "bior6.8", "rbio3.3", "dmey"])
def test_ortho_stack_is_dwtn(wavelet: str) -> None:
    weights = np.random.default_rng(3).standard_normal((3, 24, 40))
    task = StackTask("s0", "w", "matrix", (Axis("leaf", 24, 12), Axis("leaf", 40, 20)), ("out", "in"), layers=(3, 3))
    source = [lambda layer=layer: layer for layer in weights]
    method, options = get_method("bot"), make_options("bot", wavelet=wavelet, convention="ortho")
    got = np.stack(list(method.resample(task, source, options, xp=np, seed=0)))
    expected = pywt.dwtn(weights, wavelet, mode="periodization", axes=(1, 2))["aa"]
    np.testing.assert_allclose(got, expected, atol=TOLERANCE * 10, rtol=0)


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior4.4", "coif5", "dmey"])
def test_engine_equals_the_matrix(wavelet: str) -> None:
    rng = np.random.default_rng(5)
    for source, target in ((600, 300), (300, 600), (601, 301), (96, 24), (24, 96), (40, 30), (30, 40)):
        for form in ("unit", "sqrt", "dual"):
            leaf = LeafOperator(wavelet, source, target, form)
            for pre, post in ((1, 5), (4, 1), (3, 2)):
                x = rng.standard_normal((pre, source, post))
                exact = np.einsum("ts,psq->ptq", leaf.matrix, x)
                np.testing.assert_allclose(leaf.apply(x, np), exact, atol=1e-11)
                single = leaf.apply(x.astype(np.float32), np)
                assert single.dtype == np.float32
                np.testing.assert_allclose(single, exact, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("wavelet", ["db2", "sym4", "coif1", "bior2.2", "bior4.4", "rbio2.2"])
def test_layer_filter_is_the_symmetric_mode_cropped(wavelet: str) -> None:
    """Rows away from the ends are PyWavelets' ``symmetric`` rows, moved by whole rows or layers only."""
    ours = layer_matrix(wavelet, 32, 16)[8]
    rows = pywt.dwt(np.eye(32), wavelet, mode="symmetric", axis=0)[0] / np.sqrt(2)
    reference = rows[len(rows) // 2]
    candidates = [np.roll(reference, shift) for shift in range(-4, 5)]
    assert min(np.abs(ours - candidate).max() for candidate in candidates) < TOLERANCE

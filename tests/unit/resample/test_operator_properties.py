"""Properties of the per-axis operators, over wavelets and sizes."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from bot_onnx._resample import operator
from bot_onnx._resample.depth import layer_map, layer_matrix
from bot_onnx._resample.filters import axis_matrix, unit_operator

WAVELETS = pywt.wavelist(kind="discrete")
SYMMETRIC = [name for name in WAVELETS if pywt.Wavelet(name).symmetry == "symmetric"]
wavelets = st.sampled_from(WAVELETS)
sizes = st.integers(1, 64)
slack = {"dmey": 3e-2}  # an FIR approximation: its own filter sums to sqrt(2) within 1e-3 only


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior2.2", "rbio3.1"])
def test_every_size_comes_out_exactly(wavelet: str) -> None:
    for n in range(1, 65):
        for m in range(1, 65):
            matrix = unit_operator(wavelet, n, m)
            assert matrix.shape == (m, n)
            assert np.isfinite(matrix).all()


@given(wavelets, sizes, sizes)
@settings(deadline=None, max_examples=200)
def test_rows_sum_to_one_and_sqrt_is_its_gain(wavelet: str, n: int, m: int) -> None:
    unit = axis_matrix(wavelet, n, m, "unit")
    np.testing.assert_allclose(unit.sum(axis=1), 1.0, atol=slack.get(wavelet, 1e-9))
    np.testing.assert_allclose(axis_matrix(wavelet, n, m, "sqrt"), unit * np.sqrt(n / m), rtol=1e-14)


@given(wavelets.filter(lambda name: name != "dmey"), sizes, sizes)
@settings(deadline=None, max_examples=200)
def test_a_grown_signal_is_read_back(wavelet: str, n: int, m: int) -> None:
    n, m = min(n, m), max(n, m)
    out = operator("bot", n, m, wavelet=wavelet, convention="value", direction="out")
    into = operator("bot", n, m, wavelet=wavelet, convention="value", direction="in")
    np.testing.assert_allclose(into.T @ out, np.eye(n), atol=1e-8)


@given(wavelets.filter(lambda name: name != "dmey"), st.integers(1, 16), st.integers(1, 3))
@settings(deadline=None, max_examples=100)
def test_growing_then_shrinking_returns_the_weight(wavelet: str, n: int, level: int) -> None:
    weight = np.random.default_rng(n).standard_normal((n, n))
    m = n << level
    up = [operator("bot", n, m, wavelet=wavelet, convention="value", direction=way) for way in ("out", "in")]
    down = [operator("bot", m, n, wavelet=wavelet, convention="value", direction=way) for way in ("out", "in")]
    grown = up[0] @ weight @ up[1].T
    np.testing.assert_allclose(down[0] @ grown @ down[1].T, weight, atol=1e-8)


@given(st.integers(2, 64), st.integers(1, 63))
@settings(deadline=None, max_examples=60)
def test_shrunk_constants_and_haar_pairs_stay(n: int, m: int) -> None:
    m = min(m, n)
    out = operator("bot", n, m, convention="value", direction="out")
    into = operator("bot", n, m, convention="value", direction="in")
    np.testing.assert_allclose(out @ into.T, np.eye(m), atol=1e-9)


@given(st.sampled_from(SYMMETRIC), st.integers(2, 32), st.booleans())
@settings(deadline=None, max_examples=100)
def test_linear_phase_filters_are_symmetric_up_to_delay(wavelet: str, half: int, grow: bool) -> None:
    n, m = (half, 2 * half) if grow else (2 * half, half)
    matrix = unit_operator(wavelet, n, m)
    reverse, long_axis = matrix[::-1, ::-1], 0 if grow else 1
    delays = (np.abs(np.roll(reverse, shift, axis=long_axis) - matrix).max() for shift in range(max(n, m)))
    assert min(delays) < 1e-6  # dmey's coefficients are symmetric to single precision


@given(wavelets, st.integers(1, 24), st.integers(1, 4), st.booleans(), st.integers(0, 7))
@settings(deadline=None, max_examples=300)
def test_filtered_layers_sit_where_they_should(wavelet: str, n: int, level: int, grow: bool, extra: int) -> None:
    source, target = (n, (n << min(level, 3)) + extra) if grow else (n << level, n)
    matrix = layer_matrix(wavelet, source, target)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)
    centroids = matrix @ np.arange(source)
    places = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    assert np.abs(centroids - places).max() <= 0.5 + 1e-8


@pytest.mark.parametrize("wavelet", ["db2", "db4", "sym8", "coif3", "bior4.4", "bior6.8", "rbio3.3", "dmey"])
@pytest.mark.parametrize(("source", "target"), [(8, 4), (4, 8), (24, 12), (12, 24), (6, 12)])
def test_the_ends_do_not_meet(wavelet: str, source: int, target: int) -> None:
    matrix = np.abs(layer_matrix(wavelet, source, target))
    assert matrix[0].argmax() < source / 2
    assert matrix[-1].argmax() >= source / 2
    assert matrix[0, -1] < 0.25 * matrix[0].max()


@given(st.sampled_from(["even", "interleave"]), st.integers(1, 48), st.integers(1, 48))
@settings(max_examples=100)
def test_selections_keep_layer_zero_and_order(mode: str, source: int, target: int) -> None:
    if (mode == "even") != (target < source):
        return
    layers = layer_map(mode, source, target, wavelet="haar", residual="none", place="test")  # type: ignore[arg-type]
    picks = [row[0][0] for row in layers.rows]
    assert picks[0] == 0
    assert picks == sorted(picks)
    assert len(set(picks)) == min(source, target)
    places = (np.arange(target) + 0.5) * source / target - 0.5
    assert np.abs(np.array(picks) - places).max() <= max(0.5, source / target / 2) + 1

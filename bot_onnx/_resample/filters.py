"""Per-axis operators as float64 matrices: wavelet filter banks and the DCT resize.

The wavelet matrices equal PyWavelets' transforms of the identity; its filter coefficients are used, its transforms
are not (the tests hold both equal). Mode ``periodization`` is here: odd lengths are padded by repeating the last
index, as PyWavelets does. The other boundary modes are in :mod:`bot_onnx._resample.boundary`. Matrices are cached:
treat them as read-only (they are marked so).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import pywt
from numpy.typing import NDArray

from bot_onnx._resample.boundary import BoundaryMode, analyse, crop, extend, margin, synthesise

Matrix = NDArray[np.float64]
Band = Literal["low", "high"]
Form = Literal["unit", "sqrt", "dual"]

#: Filters whose low-pass band is the mean (or, growing, the copy) of two neighbours.
HAAR_NAMES = frozenset({"haar", "db1", "bior1.1", "rbio1.1"})
#: In place of a wavelet's name: the DCT resize for every ratio.
DCT = "dct"
#: In place of a wavelet's name where an axis grows: the laws of :mod:`bot_onnx._resample.growth`.
COPIES, ZEROS, MEANS = "copies", "zeros", "means"


@lru_cache(maxsize=128)
def taps(wavelet: str, part: Literal["dec_lo", "dec_hi", "rec_lo", "rec_hi"]) -> Matrix:
    """Filter coefficients as PyWavelets lists them (orthonormal scaling: a low-pass filter sums to √2)."""
    return np.asarray(getattr(pywt.Wavelet(wavelet), part), dtype=np.float64)


def analysis(wavelet: str, n: int, band: Band = "low") -> Matrix:
    """One level of periodized analysis, ``[ceil(n/2), n]``: ``pywt.dwt(I_n, wavelet, 'periodization', axis=0)``.

    y[i] = Σⱼ f[j] · x[(2i + F/2 - j) mod N], F taps, N = n rounded up to even with x[N-1] = x[n-1].
    """
    f = taps(wavelet, "dec_lo" if band == "low" else "dec_hi")
    even = n + n % 2
    rows = np.arange(even // 2)
    matrix = np.zeros((even // 2, even))
    for j, value in enumerate(f):
        np.add.at(matrix, (rows, (2 * rows + len(f) // 2 - j) % even), value)
    if even != n:
        matrix[:, n - 1] += matrix[:, n]
    return np.ascontiguousarray(matrix[:, :n])


def synthesis(wavelet: str, m: int, band: Band = "low") -> Matrix:
    """One level of periodized synthesis, ``[2m, m]``: ``pywt.idwt(I_m, None, wavelet, 'periodization', axis=0)``."""
    g = taps(wavelet, "rec_lo" if band == "low" else "rec_hi")
    columns = np.arange(m)
    matrix = np.zeros((2 * m, m))
    for t, value in enumerate(g):
        np.add.at(matrix, ((2 * columns - len(g) // 2 + 1 + t) % (2 * m), columns), value)
    return matrix


def shrink_level(n_source: int, n_target: int) -> int | None:
    """Number of DWT levels that lead from ``n_source`` to ``n_target`` (halves rounded up), or None if none do."""
    level = 0
    while n_source > n_target:
        n_source, level = (n_source + 1) // 2, level + 1
    return level if n_source == n_target else None


def grow_level(n_source: int, n_target: int, max_level: int | None = None) -> int:
    """round(log2(n_target / n_source)), at most ``max_level``: the inverse DWT levels that come before a DCT resize."""
    level = max(0, round(float(np.log2(n_target / n_source))))
    return level if max_level is None else min(level, max_level)


def dct_resize(n_source: int, n_target: int, kept: int | None = None) -> Matrix:
    """Resize through the orthonormal DCT-II, ``[n_target, n_source]``, unit row sums.

    R = √(m/n) · C_mᵀ[:, :q] · C_n[:q], q = min(n, m), or ``kept`` frequencies if they are fewer, with the sum over
    frequencies in closed form (Dirichlet's kernel), so that a large axis costs no matrix product.
    """
    q = min(n_source, n_target, n_source if kept is None else kept)
    out = (np.arange(n_target) + 0.5)[:, None] / n_target
    into = (np.arange(n_source) + 0.5)[None, :] / n_source
    return (1.0 + _cosine_sum(np.pi * (out - into), q) + _cosine_sum(np.pi * (out + into), q)) / n_source


def _cosine_sum(theta: Matrix, q: int) -> Matrix:
    """Σ_{r=1}^{q-1} cos(rθ)."""
    half = np.sin(theta / 2)
    flat = np.abs(half) < 1e-12
    return np.where(flat, q - 1.0, (np.sin((q - 0.5) * theta) / np.where(flat, 1.0, half) - 1.0) / 2)


def _shrink(wavelet: str, n: int, level: int) -> Matrix:
    """Π dwt(I).cA / √2."""
    if level == 0:
        return np.eye(n)
    matrix: Matrix = analysis(wavelet, n) / np.sqrt(2.0)
    for _ in range(level - 1):
        if len(matrix) % 2:
            matrix = np.concatenate([matrix, matrix[-1:]])
        matrix = _analyse_rows(taps(wavelet, "dec_lo") / np.sqrt(2.0), matrix)
    return matrix


def _analyse_rows(f: Matrix, x: Matrix) -> Matrix:
    """Analysis along axis 0 of an even number of rows: F row gathers instead of a dense product."""
    rows = np.arange(len(x) // 2)
    out: Matrix = np.zeros((len(rows), x.shape[1]))
    for j, value in enumerate(f):
        out += value * x[(2 * rows + len(f) // 2 - j) % len(x)]
    return out


def _grow(wavelet: str, n: int, level: int, sizes: Sequence[int] = ()) -> Matrix:
    """Π √2 · idwt(I, 0); ``sizes``, if given, crop every level's result to that many rows."""
    if level == 0:
        return np.eye(n)
    matrix: Matrix = np.sqrt(2.0) * synthesis(wavelet, n)
    for step in range(level):
        if step:
            matrix = _synthesise_rows(np.sqrt(2.0) * taps(wavelet, "rec_lo"), matrix)
        matrix = matrix[: sizes[step]] if sizes else matrix
    return matrix


def _synthesise_rows(g: Matrix, x: Matrix) -> Matrix:
    """Synthesis along axis 0: F row scatters (rows of one tap never meet) instead of a dense product."""
    columns = np.arange(len(x))
    out: Matrix = np.zeros((2 * len(x), x.shape[1]))
    for t, value in enumerate(g):
        out[(2 * columns - len(g) // 2 + 1 + t) % len(out)] += value * x
    return out


def unit_operator(
    wavelet: str, n_source: int, n_target: int, mode: BoundaryMode = "periodization", max_level: int | None = None
) -> Matrix:
    """R, ``[n_target, n_source]``, of unit row sums (``dmey``, itself an approximation: to 2e-3 a level).

    Shrinking to halves (rounded up at every level): the low-pass bands of as many DWT levels; to any other size: the
    DCT resize. Growing: :func:`grow_level` inverse DWT levels with the detail bands zero, then a DCT resize if the
    size is not yet exact. With ``max_level`` the DCT resize does what the levels may not.

    In modes ``zero`` and ``antisymmetric``, which do not continue a constant, rows near the ends sum to less.
    """
    if wavelet == DCT:
        return dct_resize(n_source, n_target)
    if n_target > n_source:
        level = grow_level(n_source, n_target, max_level)
        matrix = _grow_in_mode(wavelet, n_source, level, mode)
        return matrix if matrix.shape[0] == n_target else dct_resize(matrix.shape[0], n_target) @ matrix
    steps = shrink_level(n_source, n_target)
    if steps is None:
        return dct_resize(n_source, n_target)
    level = steps if max_level is None else min(steps, max_level)
    matrix = _shrink_in_mode(wavelet, n_source, level, mode)
    return matrix if level == steps else dct_resize(matrix.shape[0], n_target) @ matrix


def _shrink_in_mode(wavelet: str, n: int, level: int, mode: BoundaryMode) -> Matrix:
    """Low band of ``level`` levels at unit row sums, cropped to ``n`` halved ``level`` times."""
    if mode == "periodization" or level == 0:
        return _shrink(wavelet, n, level)
    low = analyse(np.eye(n), taps(wavelet, "dec_lo") / np.sqrt(2.0), mode, level)
    for _ in range(level):
        n = (n + 1) // 2
    return crop(low, n)


def _grow_in_mode(wavelet: str, n: int, level: int, mode: BoundaryMode) -> Matrix:
    """Inverse of ``level`` levels at unit row sums, the continued approximation's, cropped to ``n << level``."""
    if mode == "periodization" or level == 0:
        return _grow(wavelet, n, level)
    g = np.sqrt(2.0) * taps(wavelet, "rec_lo")
    beyond = margin(len(g))
    matrix = extend(np.eye(n), mode, beyond, beyond)
    for _ in range(level):
        matrix = synthesise(matrix, g)
    return crop(matrix, n << level)


def dual_operator(
    wavelet: str, n_source: int, n_target: int, mode: BoundaryMode = "periodization", max_level: int | None = None
) -> Matrix:
    """rho·R~, ``[n_target, n_source]``: what an ``in`` axis takes so that a weight reads a resampled signal rightly.

    Growing: (rho R~)ᵀ R = I. Shrinking: R (rho R~)ᵀ = I, (rho R~)ᵀ being the way back up with zero details. Over dyadic
    ratios that is the filter bank's other half (perfect reconstruction; Cohen, Daubechies & Feauveau 1992). Growing
    to a size between takes the least-norm left inverse of R. Shrinking an odd size takes the way up, cropped: exact
    for Haar, and for longer filters but for the last indices. Other boundary modes than ``periodization`` and a
    ``max_level`` that binds take the least-norm inverse of R in both directions.
    """
    shrinking = n_target <= n_source
    steps = shrink_level(n_source, n_target) if shrinking else grow_level(n_source, n_target)
    if wavelet == DCT or (shrinking and steps is None):
        return np.ascontiguousarray(dct_resize(n_target, n_source).T)
    assert steps is not None
    if mode != "periodization" or (max_level is not None and max_level < steps):
        return _least_norm_dual(unit_operator(wavelet, n_source, n_target, mode, max_level))
    if shrinking:
        return np.ascontiguousarray(_cropped_grow(wavelet, n_source, steps).T)
    reached = n_source << steps
    if reached <= n_target:
        back = _shrink(wavelet, reached, steps)
        return np.ascontiguousarray((back if reached == n_target else back @ dct_resize(n_target, reached)).T)
    return _least_norm_dual(unit_operator(wavelet, n_source, n_target))


def _least_norm_dual(matrix: Matrix) -> Matrix:
    """Transpose of the pseudo-inverse: through QR, or, where R has not full rank, the singular values."""
    tall = matrix.shape[0] >= matrix.shape[1]
    orthonormal, triangle = np.linalg.qr(matrix if tall else matrix.T)
    pivots = np.abs(np.diag(triangle))
    if pivots.min() < 1e-10 * pivots.max():
        return np.ascontiguousarray(np.linalg.pinv(matrix, rcond=1e-10).T)
    inverse = np.linalg.solve(triangle, orthonormal.T)
    return np.ascontiguousarray(inverse.T if tall else inverse)


def _cropped_grow(wavelet: str, n: int, level: int) -> Matrix:
    """Way up to size ``n``, ``[n, ceil(n / 2^level)]``: √2·idwt with every odd size cropped by its last index."""
    sizes = [n]
    for _ in range(level):
        sizes.append((sizes[-1] + 1) // 2)
    return _grow(wavelet, sizes[-1], level, sizes[-2::-1])


@lru_cache(maxsize=4)
def axis_matrix(
    wavelet: str,
    n_source: int,
    n_target: int,
    form: Form,
    mode: BoundaryMode = "periodization",
    max_level: int | None = None,
) -> Matrix:
    """The operator of a leaf axis with its gain, ``[n_target, n_source]``, read-only.

    Args:
        wavelet: name of a discrete wavelet, or :data:`DCT`.
        n_source: size in the source.
        n_target: size in the target.
        form: ``unit`` R; ``sqrt`` √rho·R; ``dual`` rho·R~.
        mode: how a signal goes on beyond its ends.
        max_level: DWT levels at most; None: as many as the ratio has.
    """
    if form == "dual":
        matrix = dual_operator(wavelet, n_source, n_target, mode, max_level)
    else:
        matrix = unit_operator(wavelet, n_source, n_target, mode, max_level)
        if form == "sqrt":
            matrix = matrix * np.sqrt(n_source / n_target)
    matrix.flags.writeable = False
    return matrix

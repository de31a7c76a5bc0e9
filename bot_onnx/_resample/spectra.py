"""Cosine spectra along one axis as matrices: of the orthonormal DCT-II, and of one that is not normalised.

C_n is the orthonormal DCT-II matrix. Cut or padded to m frequencies and transformed back, a signal of n values goes
through C_mᵀ F C_n, where F ``[m, n]`` places the source's frequencies among the target's. Without normalisation the
way there and the way back, each at its own size, leave a gain of √(n/m) more: a smooth pattern then comes out n/m
times as large, white noise √(n/m) times.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from bot_onnx._resample.filters import Matrix, dct_resize

Depth = Literal["zero", "random", "consistence", "repeat"]


def dct_matrix(n: int) -> Matrix:
    """Orthonormal DCT-II, ``[n, n]``: C[r, i] = √(2/n) cos(π r (i + ½) / n), row 0 divided by √2."""
    matrix: Matrix = np.sqrt(2.0 / n) * np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n)
    matrix[0] /= np.sqrt(2.0)
    return matrix


def depth_operator(source: int, target: int, depth: Depth) -> Matrix:
    """What a stack is mixed with along its layers, ``[target, source]``: C_Ltᵀ · F · C_Ls.

    The random frequencies are no linear function of the source and left out.
    """
    if source == target:
        return np.eye(source)
    picks = np.arange(target)
    if depth == "consistence":
        picks = np.minimum(picks, source - 1)
    elif depth == "repeat":
        picks = picks % source
    mixed: Matrix = dct_matrix(target).T @ _places(picks, source) @ dct_matrix(source)
    return mixed


def kept_frequencies(n: int, ratio: float) -> int:
    """How many of n frequencies a ratio keeps: ⌊ratio·n⌋, at least one."""
    return max(1, int(ratio * n + 1e-9))


@lru_cache(maxsize=4)
def plain_operator(source: int, target: int, kept: int) -> Matrix:
    """√ρ · C_mᵀ[:, :q] · C_n[:q], ``[target, source]``, q = min(kept, m), ρ = n/m: without normalisation; read-only."""
    matrix: Matrix = source / target * dct_resize(source, target, kept)
    matrix.flags.writeable = False
    return matrix


def plain_depth_operator(source: int, target: int, depth: Depth, kept: int) -> Matrix:
    """C_Ltᵀ D_Lt⁻¹ · F · D_Ls C_Ls, ``[target, source]``, of whose source ``kept`` frequencies count.

    D_n = diag(2√n, √(2n), √(2n) …) takes the norms of an orthonormal transform away: X_r = 2 Σ x_i cos(π r (i + ½)/n).
    Frequency 0 is larger by √2 than the others there, and is so wherever it is put again. What a deeper network adds
    is ``zero`` or ``random`` (left out here), the kept ones again (``repeat``), or each of them in a block
    (``consistence``): target frequency r takes ⌊r · kept / target⌋.
    """
    picks = np.arange(target)
    if depth == "repeat":
        picks = picks % kept
    elif depth == "consistence" and target > kept:
        picks = picks * kept // target
    back = dct_matrix(target).T / _norms(target)
    mixed: Matrix = back @ _places(picks, kept, source) @ (_norms(source)[:, None] * dct_matrix(source))
    return mixed


def _norms(n: int) -> Matrix:
    norms: Matrix = np.full(n, np.sqrt(2.0 * n))
    norms[0] = 2.0 * np.sqrt(n)
    return norms


def _places(picks: np.ndarray, kept: int, source: int | None = None) -> Matrix:
    """F: row r takes frequency ``picks[r]``, none where that is not among those that are kept."""
    place = np.zeros((len(picks), source or kept))
    rows = np.flatnonzero(picks < kept)
    place[rows, picks[rows]] = 1.0
    return place

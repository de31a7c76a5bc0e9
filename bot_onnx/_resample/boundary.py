"""Wavelet filtering with PyWavelets' boundary modes other than ``periodization``: extend, filter, crop.

A signal is continued beyond its ends by the mode's rule (PyWavelets' ``pad``), all as linear maps on the rows of a
matrix. An n-sample signal has floor((n + F - 1) / 2) low-pass coefficients (F taps), more than n / 2 for long
filters; what is too many is cropped from both ends, so that row k stays where target index k lies. Growing continues
the signal by F/2 - 1 samples on each side before the synthesis, and crops F - 2 samples in all for every number of
levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
BoundaryMode = Literal[
    "zero", "constant", "symmetric", "periodic", "smooth", "periodization", "reflect", "antisymmetric", "antireflect"
]  # fmt: skip


def extend(x: Rows, mode: BoundaryMode, left: int, right: int) -> Rows:
    """Rows of ``x``, ``[n, c]``, continued by ``left`` and ``right`` rows: ``[left + n + right, c]``."""
    n = len(x)
    before, behind = np.arange(-left, 0), np.arange(n, n + right)
    rule = _RULES[mode if n > 1 or mode not in _NEED_TWO else "constant"]
    return np.concatenate([rule(x, before), x, rule(x, behind)])


def _zero(x: Rows, at: NDArray[np.intp]) -> Rows:
    return np.zeros((len(at), x.shape[1]))


def _constant(x: Rows, at: NDArray[np.intp]) -> Rows:
    return x[np.clip(at, 0, len(x) - 1)]


def _periodic(x: Rows, at: NDArray[np.intp]) -> Rows:
    return x[at % len(x)]


def _symmetric(x: Rows, at: NDArray[np.intp]) -> Rows:
    """Mirrored between samples: … x1 x0 | x0 x1 …"""
    folded = at % (2 * len(x))
    return x[np.minimum(folded, 2 * len(x) - 1 - folded)]


def _antisymmetric(x: Rows, at: NDArray[np.intp]) -> Rows:
    """… -x1 -x0 | x0 x1 …"""
    sign = np.where(at % (2 * len(x)) < len(x), 1.0, -1.0)
    mirrored: Rows = sign[:, None] * _symmetric(x, at)
    return mirrored


def _reflect(x: Rows, at: NDArray[np.intp]) -> Rows:
    """Mirrored at a sample: … x2 x1 | x0 x1 …"""
    period = 2 * (len(x) - 1)
    folded = at % period
    mirrored: Rows = x[np.minimum(folded, period - folded)]
    return mirrored


def _antireflect(x: Rows, at: NDArray[np.intp]) -> Rows:
    """… 2x0 - x2, 2x0 - x1 | x0 x1 …; every further span of n - 1 samples goes on by x[n-1] - x[0]."""
    span = len(x) - 1
    turn, rest = np.divmod(at, span)
    odd = turn % 2 == 1
    within = np.where(odd, span - rest, rest)
    rise = (x[-1] - x[0])[None, :]
    # Odd spans run backwards, point-reflected: they start at x0 + turn·rise and fall off by x[-1] - x[within].
    forward = x[within] + turn[:, None] * rise
    backward = x[0] + turn[:, None] * rise + x[-1] - x[within]
    spans: Rows = np.where(odd[:, None], backward, forward)
    return spans


def _smooth(x: Rows, at: NDArray[np.intp]) -> Rows:
    """Continued by the first, or last, difference."""
    start = x[0] + at[:, None] * (x[1] - x[0])
    end = x[-1] + (at[:, None] - (len(x) - 1)) * (x[-1] - x[-2])
    line: Rows = np.where(at[:, None] < 0, start, end)
    return line


_NEED_TWO = frozenset({"reflect", "antireflect", "smooth"})
_RULES: dict[str, Callable[[Rows, NDArray[np.intp]], Rows]] = {
    "zero": _zero,
    "constant": _constant,
    "periodic": _periodic,
    "symmetric": _symmetric,
    "antisymmetric": _antisymmetric,
    "reflect": _reflect,
    "antireflect": _antireflect,
    "smooth": _smooth,
}


def crop(x: Rows, size: int) -> Rows:
    """The middle ``size`` rows; of an odd rest, the larger part goes at the end."""
    start = (len(x) - size) // 2
    return x[start : start + size]


def analyse(x: Rows, f: Rows, mode: BoundaryMode, level: int) -> Rows:
    """Low-pass coefficients of ``level`` DWT levels along axis 0, uncropped.

    y[k] = Σⱼ f[j] · x~[2k + 1 - j], x~ the continued signal, k < floor((n + F - 1) / 2).
    """
    taps = len(f)
    for _ in range(level):
        count = (len(x) + taps - 1) // 2
        longer = extend(x, mode, taps - 2, max(0, 2 * count - len(x)))
        x = np.zeros((count, x.shape[1]))
        for j, value in enumerate(f):
            start = taps - 1 - j
            x += value * longer[start : start + 2 * count : 2]
    return x


def synthesise(x: Rows, g: Rows) -> Rows:
    """One inverse level without detail along axis 0, where the filter overlaps fully: ``[2n - F + 2, c]``."""
    taps = len(g)
    full = np.zeros((2 * len(x) + taps - 2, x.shape[1]))
    for t, value in enumerate(g):
        full[t : t + 2 * len(x) - 1 : 2] += value * x
    return full[taps - 2 : len(full) - taps + 2]


def margin(taps: int) -> int:
    """Samples by which a signal is continued on each side before a synthesis."""
    return taps // 2 - 1

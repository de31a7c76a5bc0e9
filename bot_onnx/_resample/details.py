"""What growth leaves open: noise in the detail bands of an inverse transform.

``gaussian`` and ``uniform`` fill the detail bands of every axis that grows; ``in-band`` is what no activation sees
(:mod:`bot_onnx._resample.unseen`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd, sqrt
from typing import Literal

import numpy as np

from bot_onnx._align.places import to_numpy
from bot_onnx._resample.arrays import Array, Floats, dtype_name
from bot_onnx._resample.boundary import margin, synthesise
from bot_onnx._resample.draws import normal, uniform
from bot_onnx._resample.filters import Matrix, dct_resize, grow_level, synthesis, taps
from bot_onnx._resample.operators import LeafOperator

#: Median of |x| of a standard normal distribution, and how many standard deviations make an outlier.
_MEDIAN_OF_NORMAL, _OUTLYING = 0.6745, 6.0

#: So many numbers give a standard deviation to a part in seven hundred.
_ENOUGH = 1 << 18

Details = Literal["zero", "gaussian", "uniform", "in-band", "shares"]


@dataclass(frozen=True, slots=True)
class Noise:
    """What fills the detail bands: draws of standard deviation ``sigma`` from one target layer's own stream."""

    rng: np.random.Generator
    distribution: Literal["gaussian", "uniform"]
    sigma: float

    def draw(self, shape: tuple[int, ...], dtype: str) -> Floats:
        """Array of ``shape``; the uniform one spans ±√3·sigma, which has the same standard deviation."""
        if self.distribution == "gaussian":
            return normal(self.rng, shape, dtype, self.sigma)
        draws = uniform(self.rng, shape, dtype)
        draws -= 0.5
        draws *= 2.0 * sqrt(3.0) * self.sigma
        return draws

    def fill(self, operator: LeafOperator, x: Array) -> Floats | None:
        """What the bands add to ``x`` grown by ``operator``; None where no level is inverted."""
        return detail_bands(operator, x.shape[0], x.shape[2], self, dtype_name(x))


def detail_bands(operator: LeafOperator, pre: int, post: int, noise: Noise, dtype: str) -> Floats | None:
    """What noise in the detail bands adds to a grown axis, ``[pre, target, post]``; None where no level is inverted.

    The inverse DWT is linear, so this is its value with the approximation zero. It takes the gain that its operator
    has over the orthonormal synthesis, hence sigma is that of the approximation in PyWavelets' own scaling.
    """
    level = grow_level(operator.source, operator.target, operator.max_level)
    if level == 0:
        return None
    size, bank = _synthesis_bank(operator, level)
    field: Floats = np.zeros((pre, size, post), dtype=dtype)
    for low, high in bank:
        field = low.astype(dtype) @ field + high.astype(dtype) @ noise.draw(field.shape, dtype)
    start = (field.shape[1] - (operator.source << level)) // 2
    field = field[:, start : start + (operator.source << level), :]
    if field.shape[1] != operator.target:
        field = dct_resize(field.shape[1], operator.target).astype(dtype) @ field
    ratio = operator.source / operator.target
    gain = 2.0 ** (level / 2) * {"unit": 1.0, "sqrt": ratio**0.5, "dual": ratio}[operator.form]
    field *= gain
    return field


def _synthesis_bank(operator: LeafOperator, level: int) -> tuple[int, list[tuple[Matrix, Matrix]]]:
    """Coefficients to begin with, and the (low, high) synthesis matrices of each level.

    Of the dual filters where the operator is the dual one. Modes other than ``periodization`` begin with as many more
    coefficients as their synthesis crops.
    """
    name = dual_name(operator.wavelet) if operator.form == "dual" else operator.wavelet
    periodic = operator.mode == "periodization"
    size = operator.source + (0 if periodic else 2 * margin(len(taps(name, "rec_lo"))))
    first, bank = size, []
    for _ in range(level):
        if periodic:
            pair = synthesis(name, size), synthesis(name, size, "high")
        else:
            pair = synthesise(np.eye(size), taps(name, "rec_lo")), synthesise(np.eye(size), taps(name, "rec_hi"))
        bank.append(pair)
        size = pair[0].shape[0]
    return first, bank


def dual_name(wavelet: str) -> str:
    """Name of the wavelet with analysis and synthesis exchanged (its own where the bank is orthogonal)."""
    if wavelet.startswith("rbio"):
        return "bior" + wavelet[4:]
    return "rbio" + wavelet[4:] if wavelet.startswith("bior") else wavelet


def robust_spread(layers: Iterable[Array]) -> float:
    """Standard deviation of a stack of weights without its outliers.

    Values beyond six times what the median deviation of their layer says (σ = median |w| / 0.6745 of a normal
    distribution; Hampel 1974) count as that much, and a layer as four times the median layer at most. Noise of this
    size then cancels to the rounding of common weights, however large a few of them are. Of large layers a sample is
    looked at.
    """
    spreads: list[float] = []
    for layer in layers:
        values = _sample(to_numpy(layer))
        if not values.size:
            continue
        sizes = np.abs(values)
        scale = float(np.median(sizes)) / _MEDIAN_OF_NORMAL or float(sizes.mean())
        spreads.append(float(np.std(np.clip(values, -_OUTLYING * scale, _OUTLYING * scale))))
    if not spreads:
        return 0.0
    return float(np.sqrt(np.mean(np.square(np.minimum(spreads, 4.0 * float(np.median(spreads)))))))


def _sample(array: Floats) -> Floats:
    """Every n-th number of an array, about ``_ENOUGH`` of them; n has no divisor in common with the last axis."""
    step = max(1, array.size // _ENOUGH)
    while step > 1 and gcd(step, array.shape[-1]) > 1:
        step += 1
    return array.reshape(-1)[::step]

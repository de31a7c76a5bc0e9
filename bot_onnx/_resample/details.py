"""What growth leaves open: noise in the detail bands of an inverse transform, and noise that no activation sees.

``gaussian`` and ``uniform`` fill the detail bands of every axis that grows. ``in-band`` draws a matrix at the target
size and takes out of it, along its contracted axes, everything that a grown activation can reach:

    W' = R_o W (rho_i R~_i)ᵀ + N (I - P_i),   P_i = R_i (rho_i R~_i)ᵀ,   N ~ Normal(0, rho_i (e·sigma)²)

P_i projects onto the signals that growth produces (for Haar: U_i U_iᵀ, U_i the orthonormal synthesis), so
(I - P_i) R_i = 0: the noise acts on nothing, while no two rows or columns of W' are equal any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd, prod, sqrt
from typing import Literal

import numpy as np

from bot_onnx._align.places import to_numpy
from bot_onnx._resample.arrays import Array, Floats, Namespace, dtype_name, normal, uniform
from bot_onnx._resample.axes import CONTRACTED_KINDS, grows, leaves, only_growing, reverse, walk
from bot_onnx._resample.boundary import margin, synthesise
from bot_onnx._resample.filters import COPIES, Matrix, dct_resize, grow_level, synthesis, taps
from bot_onnx._resample.growth import seen_when_extended, sum_copies
from bot_onnx._resample.operators import Filters, LeafOperator
from bot_onnx._stack.types import Axis, StackTask

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
            draws = normal(self.rng, shape, dtype)
            draws *= self.sigma
            return draws
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


class InBandNoise:
    """Noise for one stack that the network's function does not see.

    Along all contracted axes that grow, or along those alone that grow by new indices beside the old ones.
    """

    def __init__(self, task: StackTask, filters: Filters, *, extended_alone: bool = False) -> None:
        self.task, self.filters = task, filters
        contracted = task.kind in CONTRACTED_KINDS
        self._axes = [
            (index, only_growing(axis))
            for index, (axis, direction) in enumerate(zip(task.axes, task.directions, strict=True))
            if contracted and direction == "in" and grows(axis)
            if not extended_alone or any(leaf.law != "even" for leaf in leaves(axis))
        ]

    @property
    def level(self) -> float:
        """1/√c where the contracted axes grow c-fold.

        What rounding leaves between copies that should be equal is read by the noise, over c·n indices. At the weights'
        own spread it would be amplified from layer to layer, the more the larger c, until a deep network no longer
        computes what it did; at 1/√c of it the noise carries as much as the weights do over n, and weight and noise
        together, W/c + N(I - P), have the spread that fan-in asks for.
        """
        return 1.0 / sqrt(prod(axis.target / axis.source for _, axis in self._axes))

    def __bool__(self) -> bool:
        """Whether there is any: it needs a contracted axis that grows."""
        return bool(self._axes)

    def draw(self, rng: np.random.Generator, sigma: float, dtype: str, xp: Namespace) -> Array:
        """N (I - P_i), ``task.target_shape``, in working precision ``dtype``."""
        drawn = Noise(rng, "gaussian", sigma * self.level).draw(self.task.target_shape, dtype)
        noise = xp.asarray(drawn)
        seen = noise
        for index, axis in self._axes:
            if axis.law != "even":
                seen = self._along(seen, index, axis, self._extended, xp)
                continue
            seen = self._along(seen, index, reverse(axis), self._read, xp)
            seen = self._along(seen, index, axis, self._write, xp)
        noise -= seen
        return noise

    def _along(
        self, x: Array, index: int, axis: Axis, leaf: Callable[[Array, Axis, Namespace], Array], xp: Namespace
    ) -> Array:
        """``leaf`` of every leaf of an axis that changes."""
        shape = tuple(x.shape)
        x = xp.reshape(x, (prod(shape[:index]), shape[index], prod(shape[index + 1 :])))
        x = walk(x, axis, lambda part, which: leaf(part, which, xp), xp)
        return xp.reshape(x, (*shape[:index], axis.target, *shape[index + 1 :]))

    def _read(self, x: Array, axis: Axis, xp: Namespace) -> Array:
        """R_iᵀ on a leaf that goes back from the grown size."""
        operator = self.filters.operator(axis.target, axis.source, "unit")
        if operator.wavelet == COPIES and not operator.is_haar:
            return sum_copies(x, COPIES, axis.target, xp)
        if operator.is_haar:  # sums of neighbours are what the dual form of shrinking is
            return replace(operator, source=axis.source, target=axis.target, form="dual").apply(x, xp)
        return xp.matmul(_transposed(operator, xp, dtype_name(x)), x)

    def _extended(self, x: Array, axis: Axis, xp: Namespace) -> Array:
        """P_i on a leaf that is extended, from its grown size to the same."""
        return seen_when_extended(x, axis.law, axis.source, xp)

    def _write(self, x: Array, axis: Axis, xp: Namespace) -> Array:
        """rho_i R~_i on a leaf that grows."""
        return self.filters.operator(axis.source, axis.target, "dual").apply(x, xp)


@lru_cache(maxsize=4)
def _transposed(operator: LeafOperator, xp: Namespace, dtype: str) -> Array:
    return xp.asarray(np.ascontiguousarray(operator.matrix.T).astype(dtype))

"""What a unit is worth by gradients: how much the outputs change, to second order, when it goes.

Scale what every unit j makes by a gate g_j. What ``recover`` measures between the source's outputs f(x; 1) and those of
the gated network, D(f(x; g)), is 0 at g = 1, and so is its gradient: the first-order criterion of Molchanov et al.
(2019, "Importance Estimation for Neural Network Pruning", arXiv:1906.10771) says nothing without labels. To second
order

    D(g) = ½ (g - 1)ᵀ H (g - 1),   H = E[ Jᵀ F J ],   J = ∂f/∂g

which has no term of f's own curvature, since D is 0 there: H is the Fisher information of the gates. A unit that goes
(g_j = 0) costs the diagonal

    worth_j = ½ H_jj = ½ E Σ_c (b_c · ∂f/∂g_j)²,   F = Σ_c b_c b_cᵀ,   ∂f/∂g_j = Σ a_j ∂f/∂a_j

the sum over all positions and channels at which weights read a_j of the unit. That is Fisher pruning (Theis et al.
2018, "Faster gaze prediction with dense networks and Fisher pruning", arXiv:1801.05787) with the expectation over the
network's own outputs in the place of labels, worked out and not sampled:

* logits with the shares p, by the Kullback-Leibler divergence, mean over T positions: F = (diag p - p pᵀ) / T, and
  b_c is column c of (diag √p - p √pᵀ) / √T;
* other numbers, by the mean square over their variance on all samples: F = 2 I / (n σ²).

Where the outputs of a run have more than 32 numbers, the sum over c is estimated without bias by 8 random signs z
(Hutchinson 1990): E (Σ_c z_c b_c · v)² = Σ_c (b_c · v)².
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import positions
from bot_onnx._align.gradients import Arrays, Gradients
from bot_onnx._align.readings import Reading
from bot_onnx._align.units import Units
from bot_onnx._align.worth import Worth
from bot_onnx._runs.watched import Watched, finite, no_numbers
from bot_onnx._structure import Structure

Floats = NDArray[np.float64]
EXACT = 32  #: numbers of a run's outputs up to which each is looked at
SIGNS = 8  #: draws of random signs where there are more


@dataclass(slots=True)
class _Sum:
    """Sums of squares over samples: per index of the first leaf, and of both."""

    outer: Floats
    inner: Floats


def taylor(
    structure: Structure,
    readings: Mapping[tuple[Units, int], tuple[Reading, ...]],
    watched: Watched,
    tensors: Mapping[str, Any],
    gradients: Gradients,
) -> dict[tuple[Units, int], Worth]:
    """The worth of every unit; see the head of this module.

    Memory: the source as a message and in PyTorch, and the values of one sample.

    Args:
        structure: of the source.
        readings: what is read of the units of every layer.
        watched: the source on samples, its readings and its outputs shown.
        tensors: the source's. gradients: who takes them.

    Raises:
        DataError: the source does not run on the samples, or gives numbers that are not finite.
        ResampleError: gradients cannot be taken.
    """
    variances = _variances(watched, tensors, [name for name in gradients.outputs if name not in gradients.logits])
    inner = list(dict.fromkeys(one.value for found in readings.values() for one in found))
    network = gradients.network(watched.message(tensors), inner)
    sums = {
        key: _Sum(np.zeros_like(blank.outer), np.zeros_like(blank.inner))
        for key in readings
        for blank in [Worth.nothing(structure, key[0])]
    }
    count = 0.0
    watched.check(tensors)
    for number, (share, feeds) in enumerate(watched.samples.weighed(1)):
        stands_for = share * next(len(array) for array in feeds.values() if array.ndim)
        run = network.run(feeds)
        outputs = {name: finite(run.values[name]) for name in gradients.outputs}
        for weight, towards in directions(outputs, gradients.logits, variances, np.random.default_rng([0, number])):
            back = run.back(towards)
            for key, found in readings.items():
                _add(sums[key], weight * stands_for, _gated(structure, key[0], found, run.values, back))
        count += stands_for
    if not count:
        raise no_numbers()
    return {key: Worth(0.5 * total.outer / count, 0.5 * total.inner / count) for key, total in sums.items()}


def _variances(watched: Watched, tensors: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Variance of all numbers of an output, over all samples."""
    if not names:
        return {}
    sums = {name: np.zeros(3) for name in names}
    for share, run in watched.runs(tensors, 1):
        for name in names:
            values = finite(run[name])
            sums[name] += share * np.array((values.size, values.sum(), np.square(values).sum()))
    return {name: float(square / n - (total / n) ** 2) for name, (n, total, square) in sums.items()}


def directions(
    outputs: Mapping[str, Floats], logits: frozenset[str], variances: Mapping[str, float], rng: np.random.Generator
) -> Iterator[tuple[float, dict[str, Floats]]]:
    """All b_c, or random sums of them, as directions of the outputs, each with what its square counts."""
    total = sum(values.size for values in outputs.values())
    if total > EXACT:
        for _ in range(SIGNS):
            signs = {name: rng.choice((-1.0, 1.0), values.shape) for name, values in outputs.items()}
            yield 1 / SIGNS, {name: _factor(outputs[name], name, signs[name], logits, variances) for name in outputs}
        return
    for name, values in outputs.items():
        for place in range(values.size):
            one = np.zeros(values.size)
            one[place] = 1.0
            yield 1.0, {name: _factor(values, name, one.reshape(values.shape), logits, variances)}


def _factor(
    values: Floats, name: str, chosen: Floats, logits: frozenset[str], variances: Mapping[str, float]
) -> Floats:
    """B z of an output, ``F = B Bᵀ``."""
    if name not in logits:
        return chosen * np.sqrt(2 / (values.size * variances[name])) if variances[name] > 0 else np.zeros_like(chosen)
    shares = np.exp(values - values.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    roots = np.sqrt(shares)
    along = (roots * chosen).sum(axis=-1, keepdims=True)
    return np.asarray((roots * chosen - shares * along) / np.sqrt(values.size / values.shape[-1]), dtype=np.float64)


def _gated(structure: Structure, units: Units, found: Sequence[Reading], values: Arrays, back: Arrays) -> Floats:
    """What b · ∂f/∂g is per index of the leaves: Σ a ∂f/∂a over positions, channels and all that is read."""
    total = np.zeros_like(Worth.nothing(structure, units).inner)
    for reading in found:
        product = finite(values[reading.value]) * finite(back[reading.value])
        along = np.moveaxis(product, reading.axis, -1).reshape(-1, product.shape[reading.axis]).sum(axis=0)
        for places in positions(structure, reading.dim, units.leaves):
            total += along[places].sum(axis=1).reshape(total.shape)
    return total


def _add(total: _Sum, weight: float, gated: Floats) -> None:
    total.inner += weight * np.square(gated)
    total.outer += weight * np.square(gated.sum(axis=1))

"""What a unit is worth: by its weights, or by what it does on samples.

``magnitude`` is the L2 norm of all weights and biases that lead into the unit and out of it (Han et al. 2015,
arXiv:1506.02626, for single weights; Li et al. 2017, arXiv:1608.08710, for filters):

    √( Σ ‖w_in‖² + b² + Σ ‖w_out‖² )

A filter behind which a batch normalisation stands counts as that leaves it, W · γ/√(σ² + ε) and (b - μ) · γ/√(σ² + ε)
+ β: only that product means anything.

``activation`` is that of Minitron (Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge
Distillation", arXiv:2407.14679, section 2.2): the mean of |a| over the positions of a sample, and the L2 norm of that
over the samples. ``a`` is what the next weight reads of the unit (behind a neuron's activation and gate), of a head
‖a‖₂ over its channels. Where several weights read it, each adds what it reads.

``wanda`` is the score of Wanda (Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models",
arXiv:2306.11695, equation 1), |W_ij| ‖x_j‖₂, of a whole unit: ‖a‖₂ over all positions of all samples times the L2 norm
of all that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import leaves_of, positions
from bot_onnx._align.folding import Folding
from bot_onnx._align.readings import Reading, Scaling
from bot_onnx._align.types import AnyArray, Tensors
from bot_onnx._align.units import Units
from bot_onnx._runs.watched import Watched, finite
from bot_onnx._structure import Stack, Structure

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Worth:
    """What the units of one kind are worth in one layer.

    Attributes:
        outer: ``[n]`` per index of the first leaf, all that belongs to it included.
        inner: ``[n, m]`` per index of both leaves; m is 1 where there is one leaf.
    """

    outer: Floats
    inner: Floats

    @classmethod
    def nothing(cls, structure: Structure, units: Units) -> Worth:
        """Of units that have not been looked at."""
        sizes = [structure.dims[leaf].size for leaf in units.leaves]
        return cls(np.zeros(sizes[0]), np.zeros((sizes[0], sizes[1] if len(sizes) > 1 else 1)))

    def add(self, values: Floats) -> None:
        """Add values ``[n]`` of the first leaf, or ``[n · m]`` of both."""
        if values.size == self.inner.size:
            self.inner += values.reshape(self.inner.shape)
            self.outer += values.reshape(self.inner.shape).sum(axis=1)
        else:
            self.outer += values


def magnitude(
    structure: Structure, units: Units, layer: int, folding: Folding, tensors: Tensors, scalings: Mapping[str, Scaling]
) -> Worth:
    """Squares of the L2 norm of the weights of every unit; see the head of this module.

    Args:
        structure: of the source.
        units: what is looked at. layer: of their chain.
        folding: gives weights with what is folded into them. tensors: the source's.
        scalings: by weight and bias, the batch normalisation behind it.
    """
    worth = Worth.nothing(structure, units)
    normed = {scaling.bias for scaling in scalings.values()}  # what a norm moves counts with the filter
    for stack, axis in units.carriers:
        for name in units.tensors(stack, layer):
            if name in normed:
                continue
            for rows in _rows(folding.read(name, tensors), stack, axis, scalings.get(name), tensors):
                for leaves in _covered(structure, units, stack, axis):
                    worth.add(_squares(structure, units, stack.axes[axis] or "", leaves, rows))
    return worth


def _rows(array: AnyArray, stack: Stack, axis: int, scaling: Scaling | None, tensors: Tensors) -> list[Floats]:
    """All that leads into, or out of, the places along an axis of a weight, ``[places, numbers]`` each."""
    rows = np.moveaxis(np.asarray(array, dtype=np.float64), axis, 0).reshape(array.shape[axis], -1)
    if scaling is None or stack.directions[axis] != "out":
        return [rows]
    gamma, beta, mean, variance = (
        _vector(tensors, name) for name in (scaling.scale, scaling.shift, scaling.mean, scaling.variance)
    )
    factor = gamma / np.sqrt(variance + scaling.epsilon)
    own = np.zeros_like(mean) if scaling.bias is None else _vector(tensors, scaling.bias)
    return [rows * factor[:, None], ((own - mean) * factor + beta)[:, None]]


def _vector(tensors: Tensors, name: str) -> Floats:
    return np.asarray(tensors[name].numpy(), dtype=np.float64).ravel()


def _covered(structure: Structure, units: Units, stack: Stack, axis: int) -> list[tuple[str, ...]]:
    """Which of the leaves an axis tells apart: both where it holds both, the first alone in other parts of it."""
    inside = set(leaves_of(structure, stack.axes[axis] or ""))
    forms = [units.leaves, units.leaves[:1]] if len(units.leaves) > 1 else [units.leaves]
    return [leaves for leaves in forms if inside.issuperset(leaves)]


def _squares(structure: Structure, units: Units, dim: str, leaves: tuple[str, ...], rows: Floats) -> Floats:
    """‖row‖² per index of the leaves."""
    others = frozenset(units.leaves) - set(leaves)
    total = np.zeros(prod(structure.dims[leaf].size for leaf in leaves))
    for places in positions(structure, dim, leaves, others):
        found = rows[places].reshape(len(places), -1)
        total += np.einsum("nf,nf->n", found, found)
    return total


def activation(
    structure: Structure,
    readings: Mapping[tuple[Units, int], tuple[Reading, ...]],
    watched: Watched,
    tensors: Mapping[str, Any],
) -> dict[tuple[Units, int], Worth]:
    """Mean |activation| of every unit over positions, L2 over samples; see the head of this module.

    Args:
        structure: of the source.
        readings: what is read of the units of every layer.
        watched: the source on samples, its readings shown. tensors: the source's.
    """
    runs = watched.runs(tensors, 1, alone=True)
    return _seen(structure, readings, runs, lambda sizes: np.square(sizes.mean(axis=0)))


def wanda(
    structure: Structure,
    readings: Mapping[tuple[Units, int], tuple[Reading, ...]],
    watched: Watched,
    folding: Folding,
    tensors: Tensors,
) -> dict[tuple[Units, int], Worth]:
    """L2 of every unit's activations times that of all that reads it; see the head of this module.

    Args:
        structure, readings, watched: as for :func:`activation`.
        folding: gives weights with what is folded into them. tensors: the source's.
    """
    worths = _seen(structure, readings, watched.runs(tensors, 1), lambda sizes: np.square(sizes).sum(axis=0))
    for (units, layer), worth in worths.items():
        reads = Worth.nothing(structure, units)
        for stack, axis in units.readers():
            for name in units.tensors(stack, layer):
                (rows,) = _rows(folding.read(name, tensors), stack, axis, None, tensors)
                for leaves in _covered(structure, units, stack, axis):
                    reads.add(_squares(structure, units, stack.axes[axis] or "", leaves, rows))
        worth.inner *= np.sqrt(reads.inner)
        # What belongs to an index of the first leaf is worth what it is worth together, where it can be told apart.
        worth.outer = worth.inner.sum(axis=1) if reads.inner.any() else worth.outer * np.sqrt(reads.outer)
    return worths


def _seen(
    structure: Structure,
    readings: Mapping[tuple[Units, int], tuple[Reading, ...]],
    runs: Iterable[tuple[float, Mapping[str, NDArray[Any]]]],
    of_run: Callable[[Floats], Floats],
) -> dict[tuple[Units, int], Worth]:
    """Root of the sum over samples of what a run's sizes ``[positions, units]`` come to, added up over the readings."""
    sums: dict[tuple[Units, int, int], list[Floats]] = {}
    for share, run in runs:
        for (units, layer), found in readings.items():
            for number, reading in enumerate(found):
                told = [of_run(sizes) for sizes in _sizes(structure, units, reading, run[reading.value])]
                held = sums.setdefault((units, layer, number), [np.zeros_like(part) for part in told])
                for total, part in zip(held, told, strict=True):
                    total += share * part
    worths = {key: Worth.nothing(structure, key[0]) for key in readings}
    for (units, layer, _), totals in sums.items():
        for total in totals:
            worths[units, layer].add(np.sqrt(total))
    return worths


def _sizes(structure: Structure, units: Units, reading: Reading, values: NDArray[Any]) -> list[Floats]:
    """Size of every unit's activation, ``[positions, units]``, part by part of the axis that holds them."""
    rows = finite(np.moveaxis(values, reading.axis, -1)).reshape(-1, values.shape[reading.axis])
    inside = set(leaves_of(structure, reading.dim))
    leaves = units.leaves if inside.issuperset(units.leaves) else units.leaves[:1]
    return [
        np.asarray(np.linalg.norm(rows[:, places], axis=2), dtype=np.float64)
        for places in positions(structure, reading.dim, leaves)
    ]

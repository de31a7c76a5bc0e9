"""Noise ``in-band``: what is added to a grown matrix and no grown activation reads.

Along a contracted axis that grows by an operator R, with D that of the contraction,

    W' = R_o W D_iᵀ + N (I - P_i),   P_i = R_i D_iᵀ,   N ~ Normal(0, rho_i (e·sigma)²)

P_i projects onto the signals that growth produces (for Haar: U_i U_iᵀ, U_i the orthonormal synthesis), so
(I - P_i) R_i = 0: the noise acts on nothing, while no two rows or columns of W' are equal any more.

Where one leaf of one axis grows by whole indices, N (I - P_i) is drawn as what it is: m - n numbers where n indices
become m. Of c copies of an index, P_i is their mean, so the noise has the covariance I - 11ᵀ/c. With z of c - 1
standard normal numbers and s their sum, that is the covariance of

    (z_1 - αs, …, z_{c-1} - αs, -s/√c),   α = (1 - 1/√c) / (c - 1)

(a Householder reflection, under which the last unit vector becomes 1/√c). Where new indices stand beside the old ones
the noise is on the new ones alone, without its mean where that is what they hold. Elsewhere N is drawn whole, and what
P_i makes of it taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array, Namespace, dtype_name
from bot_onnx._resample.axes import CONTRACTED_KINDS, changes, grows, leaves, only_growing, reverse, walk
from bot_onnx._resample.draws import normal
from bot_onnx._resample.filters import COPIES, MEANS, ZEROS
from bot_onnx._resample.growth import AGAIN, copied_index, seen_when_extended, sum_copies
from bot_onnx._resample.operators import Filters, LeafOperator
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role

#: Indices along an axis: evenly spaced ones are a slice.
Places = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """The one leaf of a tensor along which there is noise, with the numbers of indices before and behind it."""

    before: int
    behind: int
    source: int
    target: int
    law: str


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
        self._leaf = self._only_leaf()

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

    def added_to(self, x: Array, rng: np.random.Generator, sigma: float, xp: Namespace) -> Array:
        """``x + N (I - P_i)`` in an array of its own, ``task.target_shape``, in the precision of ``x``."""
        deviation = sigma * self.level
        if self._leaf is None:
            noise = self._whole(rng, deviation, dtype_name(x), xp)
            noise += x
            return noise
        rows = xp.reshape(x, (self._leaf.before, self._leaf.target, self._leaf.behind))
        if self._leaf.law in (ZEROS, MEANS):
            y = _beside(rows, self._leaf, rng, deviation, xp)
        else:
            y = _among_copies(rows, self._leaf, rng, deviation, xp)
        return xp.reshape(y, tuple(x.shape))

    def _only_leaf(self) -> _Leaf | None:
        """The leaf, where there is one alone and it grows by whole indices."""
        if len(self._axes) != 1:
            return None
        index, axis = self._axes[0]
        shape = self.task.target_shape
        before, behind = prod(shape[:index]), prod(shape[index + 1 :])
        while axis.kind == "product" and sum(changes(part) for part in axis.parts) == 1:
            place = next(j for j, part in enumerate(axis.parts) if changes(part))
            before *= prod(part.target for part in axis.parts[:place])
            behind *= prod(part.target for part in axis.parts[place + 1 :])
            axis = axis.parts[place]
        if axis.kind != "leaf" or axis.role == Role.VOCAB:
            return None
        operator = self.filters.of_axis(axis, "unit")
        law = COPIES if operator.is_haar else operator.wavelet
        return _Leaf(before, behind, axis.source, axis.target, law) if law in (COPIES, AGAIN, ZEROS, MEANS) else None

    def _whole(self, rng: np.random.Generator, deviation: float, dtype: str, xp: Namespace) -> Array:
        """N (I - P_i), ``task.target_shape``, from N."""
        noise = xp.asarray(normal(rng, self.task.target_shape, dtype, deviation))
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


def _beside(x: Array, leaf: _Leaf, rng: np.random.Generator, deviation: float, xp: Namespace) -> Array:
    """``[before, target, behind]`` with noise on the new indices, where they hold means without its own."""
    shape = (leaf.before, leaf.target - leaf.source, leaf.behind)
    noise = xp.asarray(normal(rng, shape, dtype_name(x), deviation))
    if leaf.law == MEANS:
        noise -= xp.mean(noise, axis=1, keepdims=True)
    noise += x[:, leaf.source :, :]
    return xp.concat([x[:, : leaf.source, :], noise], axis=1)


def _among_copies(x: Array, leaf: _Leaf, rng: np.random.Generator, deviation: float, xp: Namespace) -> Array:
    """``[before, target, behind]`` with noise that sums to 0 over the copies of every index."""
    dtype = dtype_name(x)
    planes: list[tuple[NDArray[np.intp], Array]] = []
    for places in _copies(leaf.law, leaf.source, leaf.target):
        count = len(places)
        # Of two copies one number makes both: (z, -z)/√2.
        drawn = normal(rng, (count - 1, leaf.before, places.shape[1], leaf.behind), dtype, _alone(count) * deviation)
        planes += zip(places, _that_sum_to_zero([xp.asarray(plane) for plane in drawn]), strict=True)
    if isinstance(x, np.ndarray):
        y = x.copy()
        for places, plane in planes:
            y[:, _spaced(places), :] += plane
        return y
    # Elsewhere an array is made of its parts: not every namespace writes to places.
    order = np.concatenate([*(places for places, _ in planes), np.empty(0, np.intp)])
    still = np.setdiff1d(np.arange(leaf.target), order)
    parts = [xp.take(x, xp.asarray(places), axis=1) + plane for places, plane in planes]
    parts.append(xp.take(x, xp.asarray(still), axis=1))
    return xp.take(xp.concat(parts, axis=1), xp.asarray(np.argsort(np.concatenate([order, still]))), axis=1)


def _alone(count: int) -> float:
    return sqrt(0.5) if count == 2 else 1.0


def _that_sum_to_zero(drawn: list[Array]) -> list[Array]:
    """Of c - 1 planes of draws the c planes of noise, see the module; of one, drawn at √½, itself and its negative."""
    if len(drawn) == 1:
        return [drawn[0], -drawn[0]]
    count = len(drawn) + 1
    total = drawn[0] + drawn[1]
    for plane in drawn[2:]:
        total += plane
    last = total * (-1.0 / sqrt(count))
    total *= (1.0 - 1.0 / sqrt(count)) / (count - 1)
    return [*(plane - total for plane in drawn), last]


@lru_cache(maxsize=32)
def _copies(law: str, source: int, target: int) -> tuple[NDArray[np.intp], ...]:
    """For every number c of copies above 1 that source indices have, the target indices, ``[c, indices]``."""
    index = copied_index(law, source, target)
    order, counts = np.argsort(index, kind="stable"), np.bincount(index, minlength=source)
    first = np.cumsum(counts) - counts
    return tuple(
        np.stack([order[first[counts == count] + copy] for copy in range(count)])
        for count in np.unique(counts)
        if count > 1
    )


def _spaced(places: NDArray[np.intp]) -> Places:
    """The same places as a slice, where they are evenly spaced."""
    step = int(places[1] - places[0]) if len(places) > 1 else 1
    even = step > 0 and bool((np.diff(places) == step).all())
    return slice(int(places[0]), int(places[-1]) + 1, step) if even else places

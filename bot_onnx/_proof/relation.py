"""How a value of the grown network lies to the copies of the small one's: equal, a multiple, or anything else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._runs.fills import FAR, LEAST, least_fill

TOLERANCE = 3e-4  #: of the largest element: what single precision leaves of a few layers
_TINY = 1e-30
_ZERO = "where the copies are zero"
_QUARTERS = 8  #: the highest power, in quarters
_MOST_FACTORS = 3  #: queries, keys and values
_BLOCK = 1 << 16
_SAME = 5e-3  #: how far the logarithms of one factor are apart, at most


@dataclass(frozen=True, slots=True)
class Relation:
    """One value of the grown network beside the copies of the small one's.

    Attributes:
        factor: the grown value is so many times the copies; None where it is no multiple of them, or nothing is known.
        mixed: along one axis some indices have another factor than others (queries and values in one tensor), or what a
            mask filled in has another one than the rest, whose ``factor`` is told then.
        difference: what is wrong, for people; empty where the value is a multiple, or both are zero.
    """

    factor: float | None = None
    difference: str = ""
    mixed: bool = False

    @property
    def odd(self) -> bool:
        """Whether the value is a multiple, but not the very copies."""
        return self.mixed or (self.factor is not None and abs(self.factor - 1.0) > TOLERANCE)


def relate(
    copies: NDArray[np.generic], grown: NDArray[np.generic], axes: Iterable[int] = (), ratios: Collection[int] = ()
) -> Relation:
    """Hold a value against the copies that it should be.

    Args:
        copies: what the small network computes, duplicated. grown: what the grown one computes.
        axes: along which some indices may have another factor than others.
        ratios: how many times dims grew. Ops leave powers of these (a sum the first, a length its root); a value that
            is any other multiple of the copies is so by chance. Without ratios any factor will do.
    """
    if copies.shape != grown.shape:
        return Relation(difference=f"shape {_shape(grown)} where {_shape(copies)} was to be expected")
    if copies.dtype.kind != "f":
        same = np.array_equal(copies, grown)
        return Relation(1.0) if same else Relation(difference="other numbers than the copies'")
    if _agree(copies.reshape(-1), grown.reshape(-1)):
        return Relation(1.0)
    wanted, found = copies.astype(np.float64).reshape(-1), grown.astype(np.float64).reshape(-1)
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return Relation(difference="NaN or infinite elsewhere than the copies")
    wanted, found = wanted[finite], found[finite]
    powers = frozenset(ratios)
    filled = np.abs(wanted) >= least_fill(wanted)
    if filled.any():
        rest = _times(wanted[~filled], found[~filled], powers, LEAST)
        return _beside_fills(rest, _times(wanted[filled], found[filled], powers))
    relation = _times(wanted, found, powers)
    scale = float(np.abs(found).max(initial=0.0))
    whole = bool(relation.difference) and finite.all() and wanted.any()
    if whole and any(_mixed(copies, grown, axis, scale, powers) for axis in axes):
        return Relation(mixed=True)
    return relation


def _times(
    wanted: NDArray[np.float64], found: NDArray[np.float64], ratios: frozenset[int], least: float = _TINY
) -> Relation:
    """How finite numbers ``[n]``, one kind of them, lie to those that were wanted; ``least``: of their scale."""
    scale = max(float(np.abs(found).max(initial=0.0)), least)
    apart = float(np.abs(found - wanted).max(initial=0.0))
    if not wanted.any():
        return Relation() if apart <= TOLERANCE * least else Relation(difference=f"up to {apart:.2g} {_ZERO}")
    if apart <= TOLERANCE * scale:
        return Relation(1.0)
    factor = float(wanted @ found) / max(float(wanted @ wanted), _TINY)
    error = float(np.abs(found - factor * wanted).max()) / scale
    if error > TOLERANCE or factor <= 0 or not _is_power(factor, ratios):
        return Relation(difference=f"off by {apart / float(np.abs(wanted).max()):.2g} of its scale")
    return Relation(factor)


def _beside_fills(rest: Relation, fills: Relation) -> Relation:
    """The relation of a whole value; all that is masked may have another factor, and what is not shows its own."""
    if rest.difference or fills.difference:
        return rest if rest.difference else fills
    if rest.factor is None or fills.factor is None:
        return fills if rest.factor is None else rest
    return Relation(rest.factor, mixed=abs(rest.factor - fills.factor) > TOLERANCE)


def _agree(wanted: NDArray[Any], found: NDArray[Any]) -> bool:
    """Whether a value is its copies, all finite, not all zero, none a fill: what most values are, seen in one pass.

    Block by block, so that what is worked with stays in the processor's cache.
    """
    precision = np.promote_types(found.dtype, np.float32)
    scale = worst = 0.0
    for start in range(0, found.size, _BLOCK):
        ours = found[start : start + _BLOCK].astype(precision, copy=False)
        theirs = wanted[start : start + _BLOCK].astype(precision, copy=False)
        largest = float(np.abs(ours).max())
        with np.errstate(invalid="ignore"):
            difference = float(np.abs(ours - theirs).max())
        if not np.isfinite(difference) or not largest < FAR:
            return False
        scale, worst = max(scale, largest), max(worst, difference)
    return worst <= TOLERANCE * scale and scale > 0.0


def _is_power(factor: float, ratios: frozenset[int]) -> bool:
    """Whether a factor is a product of powers of the ratios, in quarters."""
    if not ratios:
        return True
    sums = np.zeros(1)
    for ratio in ratios - {1}:
        sums = np.add.outer(sums, np.arange(-_QUARTERS, _QUARTERS + 1) / 4 * np.log(ratio)).reshape(-1)
    return bool(np.abs(sums - np.log(factor)).min() < TOLERANCE)


def _mixed(copies: NDArray[Any], grown: NDArray[Any], axis: int, scale: float, ratios: frozenset[int]) -> bool:
    """Whether a value is the copies times few factors, each of some indices of one axis."""
    wanted = np.moveaxis(copies, axis, 0).reshape(copies.shape[axis], -1).astype(np.float64)
    found = np.moveaxis(grown, axis, 0).reshape(wanted.shape).astype(np.float64)
    weights = np.einsum("ij,ij->i", wanted, wanted)
    factors = np.where(weights > 0, np.einsum("ij,ij->i", wanted, found) / np.where(weights > 0, weights, 1.0), 1.0)
    if np.abs(found - factors[:, None] * wanted).max() > TOLERANCE * scale or (factors <= 0).any():
        return False
    several = factors[np.unique(np.round(np.log(factors) / _SAME), return_index=True)[1]]
    return several.size <= _MOST_FACTORS and all(_is_power(float(factor), ratios) for factor in several)


def _shape(array: NDArray[np.generic]) -> str:
    return "x".join(map(str, array.shape)) or "scalar"

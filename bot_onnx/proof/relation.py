"""How a value of the grown network lies to the copies of the small one's: equal, a multiple, or anything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 3e-4  #: of the largest element: what single precision leaves of a few layers
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Relation:
    """One value of the grown network beside the copies of the small one's.

    Attributes:
        factor: the grown value is so many times the copies; None where it is no multiple of them, or nothing is known.
        difference: what is wrong, for people; empty where the value is a multiple, or both are zero.
    """

    factor: float | None = None
    difference: str = ""

    @property
    def odd(self) -> bool:
        """Whether the value is a multiple, but not the very copies."""
        return self.factor is not None and abs(self.factor - 1.0) > TOLERANCE


def relate(copies: NDArray[np.generic], grown: NDArray[np.generic]) -> Relation:
    """Hold a value against the copies that it should be."""
    if copies.shape != grown.shape:
        return Relation(difference=f"shape {_shape(grown)} where {_shape(copies)} was to be expected")
    if copies.dtype.kind != "f":
        same = np.array_equal(copies, grown)
        return Relation(1.0) if same else Relation(difference="other numbers than the copies'")
    wanted, found = copies.astype(np.float64).reshape(-1), grown.astype(np.float64).reshape(-1)
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return Relation(difference="NaN or infinite elsewhere than the copies")
    wanted, found = wanted[finite], found[finite]
    scale = float(np.abs(found).max(initial=0.0))
    if not np.abs(wanted).max(initial=0.0):
        return Relation() if not scale else Relation(difference=f"up to {scale:.2g} where the copies are zero")
    factor = float(wanted @ found) / max(float(wanted @ wanted), _TINY)
    error = float(np.abs(found - factor * wanted).max()) / max(scale, _TINY)
    if error > TOLERANCE or factor <= 0:
        plain = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        return Relation(difference=f"off by {plain:.2g} of its scale")
    return Relation(factor)


def _shape(array: NDArray[np.generic]) -> str:
    return "x".join(map(str, array.shape)) or "scalar"

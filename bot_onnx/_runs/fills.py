"""Fills: the huge numbers that masks write, beside which what a network computes looks like nothing.

A masked score is -1e9 or -65504, its neighbours are of order one. Measured against the largest element of such a
tensor any two sets of scores agree, so fills are held against fills and the rest against the rest.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: How many times larger than all the rest, and than one, a fill is at least: masks of -1e4 hide scores of up to 100.
FAR: Final = 100.0
#: Scale of what stands beside fills, at least: less is what rounding leaves.
LEAST: Final = 1e-2


def least_fill(*arrays: NDArray[Any]) -> float:
    """Magnitude from which the elements of a value are fills; infinite where it has none, or nothing besides.

    Args:
        arrays: floats of any shape, those of all runs. What is not finite does not count.
    """
    magnitudes = [np.abs(array[np.isfinite(array)]) for array in arrays]
    large = [one[one >= FAR] for one in magnitudes]
    if not any(one.size for one in large) or all(a.size == b.size for a, b in zip(large, magnitudes, strict=True)):
        return float("inf")
    below = max(float(one[one < FAR].max(initial=1.0)) for one in magnitudes)
    levels = np.concatenate([[below], np.sort(np.concatenate(large).astype(np.float64))])
    found = levels[1:][levels[1:] >= FAR * levels[:-1]]
    return float(found[0]) if found.size else float("inf")

"""The array namespace that the arithmetic runs in, the working precision, and moments."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bot_onnx.errors import ResampleError

#: An array of any array-API namespace: the standard has no common static type.
Array: TypeAlias = Any
#: A NumPy array of working precision.
Floats: TypeAlias = NDArray[Any]
#: An array-API namespace: ``numpy``, ``array_api_compat.cupy``, ``array_api_strict``…
Namespace: TypeAlias = Any

_NOT_FLOATING = ("int", "uint", "bool", "complex")


def dtype_name(array: Array) -> str:
    """``float32`` and the like, for an array of any namespace (ml_dtypes' bfloat16 included)."""
    return str(array.dtype).rsplit(".", maxsplit=1)[-1]


def is_floating(array: Array) -> bool:
    """Whether the array holds real floating-point numbers of any width."""
    return not dtype_name(array).startswith(_NOT_FLOATING)


def working_dtype(array: Array, place: str) -> str:
    """``float64`` for a float64 array, ``float32`` for every narrower float.

    Raises:
        ResampleError: integers, booleans and complex numbers have no resampled values.
    """
    name = dtype_name(array)
    if not is_floating(array):
        raise ResampleError(
            f"{place}: its values are {name}, which cannot be resampled; use the model's floating-point form "
            "(before quantisation)"
        )
    return "float64" if name == "float64" else "float32"


def to_working(array: Array, xp: Namespace, place: str) -> Array:
    """``array`` in namespace ``xp`` and in working precision; no copy where both already hold."""
    name = working_dtype(array, place)
    if isinstance(array, np.ndarray):  # narrow floats such as bfloat16 exist in NumPy only: widen before moving
        return xp.asarray(array.astype(name, copy=False))
    return xp.astype(xp.asarray(array), getattr(xp, name), copy=False)


class Moments:
    """Running mean and standard deviation over several arrays, without holding them (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, array: Array, xp: Namespace) -> None:
        """Take an array of working precision in."""
        added = int(np.prod(array.shape))
        if not added:
            return
        mean, spread = float(xp.mean(array)), float(xp.std(array))
        total = self.count + added
        step = mean - self.mean
        self._squares += added * spread**2 + step**2 * self.count * added / total
        self.mean += step * added / total
        self.count = total

    @property
    def std(self) -> float:
        """Of everything taken in, about its mean; 0 of nothing."""
        return sqrt(self._squares / self.count) if self.count else 0.0

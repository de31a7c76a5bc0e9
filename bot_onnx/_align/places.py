"""Matrices on a device, index lists on the host: what the alignments ask of an array namespace beyond the standard."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: An array of any array-API namespace, and such a namespace: the standard has no common static type.
Array: TypeAlias = Any
Namespace: TypeAlias = Any


def to_numpy(array: Array) -> NDArray[Any]:
    """The array in host memory; no copy where it is there already."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "get"):  # CuPy
        host: NDArray[Any] = array.get()
        return host
    return np.asarray(array)


def placed(array: Array, xp: Namespace) -> Array:
    """The array in ``xp``; narrow floats such as bfloat16 exist in NumPy only, and are widened before they move."""
    if xp is np or not isinstance(array, np.ndarray):
        return xp.asarray(array)
    return xp.asarray(array if array.dtype.name in ("float32", "float64") else array.astype(np.float32))


def crossing(matrix: Array, rows: NDArray[np.intp], columns: NDArray[np.intp], xp: Namespace) -> Array:
    """Rows and columns of a matrix: ``matrix[np.ix_(rows, columns)]``."""
    return xp.take(xp.take(matrix, xp.asarray(rows), axis=0), xp.asarray(columns), axis=1)


def entries(matrix: Array, rows: NDArray[np.intp], columns: NDArray[np.intp], xp: Namespace) -> NDArray[Any]:
    """Single entries of a matrix, on the host: ``matrix[rows, columns]``."""
    flat = xp.reshape(matrix, (-1,))
    return to_numpy(xp.take(flat, xp.asarray(rows * matrix.shape[1] + columns)))


def without_diagonal(matrix: Array, xp: Namespace) -> Array:
    """A copy with minus infinity along the diagonal."""
    places = xp.arange(matrix.shape[0])
    return xp.where(places[:, None] == places[None, :], xp.asarray(-np.inf, dtype=matrix.dtype), matrix)


def best_of_rows(matrix: Array, xp: Namespace) -> NDArray[np.intp]:
    """Column of every row's largest entry, the first of equal ones, on the host."""
    return to_numpy(xp.argmax(matrix, axis=1))

"""Fixed orthogonal transforms along channels: cosines (DCT) and signs (Hadamard), by what their matrices hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWEST = 4  #: rows, and columns, of a transform that is told by its numbers
_CLOSE = {4: 1e-4, 8: 1e-4}  #: how far from a wave a number may be, of the wave's height, by bytes
_COARSE = 1e-2  #: the same in half precision


def is_transform(array: NDArray[Any]) -> bool:
    """Whether a matrix is a discrete cosine transform or a Hadamard matrix, whichever way round, times any factors."""
    if min(array.shape) < _FEWEST:
        return False
    if is_of_signs(array[:_FEWEST]):
        return _is_hadamard(array)
    return any(
        are_cosines(side[:_FEWEST], np.arange(_FEWEST), np.arange(side.shape[1]), side.shape[1])
        and are_cosines(side, np.arange(len(side)), np.arange(side.shape[1]), side.shape[1])
        for side in (array, array.T)
    )


def is_of_signs(rows: NDArray[Any]) -> bool:
    """Whether rows hold one number and its negative."""
    sizes = np.abs(rows)
    return bool(sizes.flat[0] > 0 and np.all(sizes == sizes.flat[0]) and rows.min() < 0 < rows.max())


def are_cosines(rows: NDArray[Any], frequencies: NDArray[np.int64], at: NDArray[np.int64], length: int) -> bool:
    """Whether row i is a multiple of cos(π (j + ½) k / n), or of cos(π (j + ½) (k + ½) / n).

    Args:
        rows: ``[frequencies, places]``.
        frequencies: k of every row.
        at: j of every column.
        length: n.
    """
    values = rows.astype(np.float64)
    height = np.abs(values).max(1)
    if not np.isfinite(values).all() or not height.all():
        return False
    close = _CLOSE.get(rows.dtype.itemsize, _COARSE)
    for shift in (0.0, 0.5):
        waves = np.cos(np.pi / length * np.outer(frequencies + shift, at + 0.5))
        factors = (values * waves).sum(1) / np.maximum((waves * waves).sum(1), 1e-30)
        if np.all(np.abs(values - factors[:, None] * waves) <= close * height[:, None]):
            return True
    return False


def _is_hadamard(array: NDArray[Any]) -> bool:
    if array.shape[0] != array.shape[1] or not is_of_signs(array):
        return False
    signs = np.sign(array).astype(np.float32)
    return bool(np.array_equal(signs @ signs.T, len(signs) * np.eye(len(signs))))

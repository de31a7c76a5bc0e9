"""Tables of decays: what linear attention forgets from one position to the next (Qin et al. 2024, arXiv 2401.04658).

Every row falls (or rises) by one ratio a step, exp(-s), whose slope s is a formula of the head, of the layer and of the
number of layers. Such a table was computed, not trained, and each family of networks has a formula of its own: it is
recognised so that it is never resampled like weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.peeking import Rows

_FEWEST = 8  #: positions along an axis that make a row of a decay
_SAMPLE = 64  #: numbers that tell most weights from a decay
_NOISE = 5e-7  #: of the logarithm of a ratio of two float32 numbers near 1
_SMALLEST = 1e-30  #: below it float32 loses digits


def is_decay(array: Rows) -> bool:
    """Whether an array of two or more wide axes holds geometric sequences of numbers in 0 … 1 along one of them.

    Zeros are left out (what a causal mask hides). Arrays of one value, and masks of ones and zeros, are no decays.
    """
    if array.dtype.kind != "f" or sum(size > 1 for size in array.shape) < 2:
        return False
    if not _are_factors(array.reshape(-1)[:_SAMPLE]):
        return False
    values = np.asarray(array)
    return _are_factors(values) and any(
        _is_geometric(values, axis) for axis, size in enumerate(values.shape) if size >= _FEWEST
    )


def _are_factors(values: NDArray[Any]) -> bool:
    return bool(np.all((values >= 0) & (values <= 1)))


def _is_geometric(array: NDArray[Any], axis: int) -> bool:
    rows = np.moveaxis(array.astype(np.float64), axis, -1)
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(rows > _SMALLEST, rows, 0))
    known = np.isfinite(logs)
    with np.errstate(invalid="ignore"):
        steps = np.where(known[..., 1:] & known[..., :-1], np.diff(logs, axis=-1), np.nan)
    counts = np.isfinite(steps).sum(axis=-1)
    if counts.max(initial=0) < _FEWEST - 1:
        return False
    mean = np.nansum(steps, axis=-1, keepdims=True) / np.maximum(counts, 1)[..., None]
    off = np.nan_to_num(np.abs(steps - mean)) > _NOISE + 1e-4 * np.abs(mean)
    falls = np.abs(mean[..., 0]) * counts > 1e-4
    return not bool(off.any()) and bool(falls.any())

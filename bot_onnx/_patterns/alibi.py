"""Attention with linear biases (ALiBi): one slope a head, by a formula of the number of heads.

For n heads, n a power of two, the slopes are 2^(-8i/n) for i = 1 … n. For any other n they are those of the next
smaller power of two, followed by every second one of the next larger (Press et al. 2022, arXiv 2108.12409).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.peeking import Rows

Floats = NDArray[np.float64]
MAX_NUMBERS = 1 << 20  #: larger tables are not looked at


def slopes(heads: int) -> Floats:
    """Slopes ``[heads]``."""
    lower = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8 * np.arange(1, lower + 1) / lower)
    second = 2.0 ** (-8 * np.arange(1, 2 * lower + 1, 2) / (2 * lower))
    return np.concatenate([first, second])[:heads]


def recognise_slopes(array: Rows) -> str | None:
    """Name of the closed form of a table of slopes, or None.

    ``alibi``: the slopes themselves, along the one axis longer than 1. ``alibi_distances``: slope x distance from the
    last position, ``[…, heads, …, positions]`` with 0 at the end of the last axis.
    """
    wide = [axis for axis, size in enumerate(array.shape) if size > 1]
    if not 1 <= len(wide) <= 2 or array.size > MAX_NUMBERS or array.dtype.kind == "V":
        return None
    if len(wide) == 2 and wide[1] != array.ndim - 1:
        return None
    form = "alibi" if len(wide) == 1 else "alibi_distances"
    exact = compute_slopes(form, array.shape)
    # The types are coarse: the same formula in half precision is off by its last digit.
    tolerance = 1e-5 if array.dtype.itemsize > 2 else 1e-2
    close = np.allclose(array.astype(np.float64), exact, rtol=tolerance, atol=0)
    return form if close else None


def compute_slopes(form: str, shape: tuple[int, ...]) -> Floats:
    """The table of a closed form at ``shape``."""
    if form == "alibi":
        return slopes(int(np.prod(shape))).reshape(shape)
    heads = int(np.prod(shape[:-1]))
    distances = np.arange(1 - shape[-1], 1)
    return (slopes(heads)[:, None] * distances).reshape(shape)

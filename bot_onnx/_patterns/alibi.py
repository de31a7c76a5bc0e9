"""Attention with linear biases (ALiBi): one slope a head, by a formula of the number of heads.

For n heads, n a power of two, the slopes are 2^(-8i/n) for i = 1 … n. For any other n they are those of the next
smaller power of two, followed by every second one of the next larger (Press et al. 2022, arXiv 2108.12409). Some
networks take the series of n as it is for any n (``series``); where n is a power of two the two are the same, and the
paper's is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.peeking import Rows

Floats = NDArray[np.float64]
MAX_NUMBERS = 1 << 20  #: larger tables are not looked at
_MOST = 1 << 26  #: the same of a table of all pairs of positions
_FEW = 4  #: rows of positions that tell nearly every other table from slopes
_MASKED = 1e4  #: what hides a position is at least so large, and the same for all heads

#: Form of a table that is one table times a slope for every head: ``slopes:<law>:<axis of the heads>``.
SLOPES = "slopes"


def slopes(heads: int) -> Floats:
    """Slopes ``[heads]``."""
    lower = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8 * np.arange(1, lower + 1) / lower)
    second = 2.0 ** (-8 * np.arange(1, 2 * lower + 1, 2) / (2 * lower))
    return np.concatenate([first, second])[:heads]


def _series(heads: int) -> Floats:
    return 2.0 ** (-8 * np.arange(1, heads + 1) / heads)


_LAWS: dict[str, Callable[[int], Floats]] = {"press": slopes, "series": _series}


def recognise_slopes(array: Rows) -> str | None:
    """Name of the closed form of a table of slopes, or None.

    ``alibi``: the slopes themselves, along the one axis longer than 1. ``alibi_distances``: slope x distance from the
    last position, ``[…, heads, …, positions]`` with 0 at the end of the last axis. :data:`SLOPES`: see there.
    """
    wide = [axis for axis, size in enumerate(array.shape) if size > 1]
    if not wide or array.size > _MOST or array.dtype.kind == "V":
        return None
    if len(wide) == 1 or (len(wide) == 2 and wide[1] == array.ndim - 1):
        form = "alibi" if len(wide) == 1 else "alibi_distances"
        if array.size <= MAX_NUMBERS and np.allclose(
            array.astype(np.float64), compute_slopes(form, array.shape), rtol=_tolerance(array.dtype), atol=0
        ):
            return form
    along = (_slopes_along(array, axis) for axis in wide[:-1] or wide)
    return next((found for found in along if found is not None), None)


def _tolerance(dtype: np.dtype) -> float:
    """The types are coarse: the same formula in half precision is off by its last digit."""
    return 1e-5 if dtype.itemsize > 2 else 1e-2


def _slopes_along(array: Rows, axis: int) -> str | None:
    """The form of a table that is one table times slopes along an axis; of a vector this table is 1, or -1."""
    heads, before = array.shape[axis], int(np.prod(array.shape[:axis]))
    if before != 1:
        return None
    rows = array.reshape(heads, -1)
    for law, function in _LAWS.items():
        exact = function(heads)
        few = np.asarray(rows[:_FEW])
        if not _are_multiples(few, exact[: len(few)]) or not _are_multiples(np.asarray(rows), exact):
            continue
        if rows.shape[1] > 1 or abs(abs(float(rows[0][0]) / exact[0]) - 1) <= _tolerance(array.dtype):
            return f"{SLOPES}:{law}:{axis}"
    return None


def _are_multiples(rows: NDArray[Any], exact: Floats) -> bool:
    """Whether rows are one row times slopes, but for what is the same in all of them: nothing, or what hides."""
    values, tolerance = rows.astype(np.float64), _tolerance(rows.dtype)
    if np.isnan(values).any():
        return False
    same = _is_same(values)
    expected = exact[:, None] * (values[0, ~same] / exact[0])
    return not same.all() and bool(np.allclose(values[:, ~same], expected, rtol=tolerance, atol=0))


def _is_same(values: Floats) -> NDArray[np.bool_]:
    """Which columns are no multiples of slopes: those of zeros, and those that hide a position."""
    alike: NDArray[np.bool_] = np.all(values == values[0], axis=0)
    hides: NDArray[np.bool_] = (values[0] == 0) | (np.abs(values[0]) >= _MASKED)
    return alike & hides


def compute_held_slopes(argument: str, shape: tuple[int, ...], held: NDArray[Any]) -> Floats:
    """A table of form :data:`SLOPES` at ``shape``, of which the axis of the heads alone may have another size.

    Args:
        argument: what the form says behind its name.
        shape: of the table that is made.
        held: the table as it is.
    """
    law, _, axis = argument.partition(":")
    old, new = (_LAWS[law](sizes[int(axis)]) for sizes in (held.shape, shape))
    values = held.reshape(len(old), -1).astype(np.float64)
    made: Floats = np.where(_is_same(values), values[0], new[:, None] * (values[0] / old[0])).reshape(shape)
    return made


def compute_slopes(form: str, shape: tuple[int, ...]) -> Floats:
    """The table of a closed form at ``shape``."""
    if form == "alibi":
        return slopes(int(np.prod(shape))).reshape(shape)
    heads = int(np.prod(shape[:-1]))
    distances = np.arange(1 - shape[-1], 1)
    return (slopes(heads)[:, None] * distances).reshape(shape)

"""Gram matrices of the indices of leaves, gathered tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import positions
from bot_onnx._align.places import Array, Namespace
from bot_onnx._align.types import AnyArray
from bot_onnx._structure import Stack, Structure

Floats = NDArray[np.float32]

#: Features looked at per tensor: a vocabulary has many more rows than it takes to tell which channels are alike.
FEATURES = 8192


def leaf_rows(
    structure: Structure, stack: Stack, array: AnyArray, leaves: tuple[str, ...], without: frozenset[str] = frozenset()
) -> Iterator[Floats]:
    """Rows of a tensor per index of ``leaves`` (several count as one, the first slowest).

    Args:
        structure: of the source. stack: that the tensor belongs to. array: its values.
        leaves: ids.
        without: leaves that must not lie on the same part of the axis.

    Yields:
        float32 ``[n, features]``, at most :data:`FEATURES` of them, evenly spaced; once per axis and concat part.
    """
    for axis, dim in enumerate(stack.axes):
        if dim is None:
            continue
        for places in positions(structure, dim, leaves, without):
            rows = np.moveaxis(array, axis, 0)[places]
            rows = rows.reshape(len(places), -1)
            step = -(-rows.shape[1] // FEATURES)
            yield np.ascontiguousarray(rows[:, ::step], dtype=np.float32)


def shares(rows: Floats, xp: Namespace = np) -> Array:
    """Gram matrix as a share of the rows' energy, X Xᵀ / ‖X‖²: every tensor counts alike, whatever its scale.

    One with fewer features than rows counts by their ratio: two rows of token types say little about 768 channels.
    An empty tensor, or one with NaN or infinite values in it, counts for nothing. The product is made in ``xp``.
    """
    energy = float(np.vdot(rows, rows))
    if energy == 0 or not np.isfinite(energy):
        return xp.zeros((len(rows),) * 2, dtype=xp.float32)
    here = xp.asarray(rows)
    return xp.matmul(here, here.T) * float(np.float32(min(1.0, rows.shape[1] / len(rows)) / energy))


def has_pattern(stack: Stack) -> bool:
    """Whether a stack tells more than one number an index: matrices, kernels and tables, not biases and norms."""
    return sum(size > 1 for size in stack.shape) > 1


def sum_of_squares(array: AnyArray) -> float:
    """Energy of a tensor, in float32 or wider."""
    flat = np.asarray(array, dtype=np.float32 if array.dtype.itemsize < 8 else np.float64).ravel()
    return float(np.dot(flat, flat))

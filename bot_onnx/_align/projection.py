"""What a linear operator keeps of a signal: its orthogonal projection onto the operator's row space.

An operator M ``[n_target, n_source]`` tells of x just its part M⁺M x; how it is scaled, or whether its rows are at
right angles, has no part in that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.types import AnyArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows that share no column: Haar's neighbours, selected elements.

    Attributes:
        columns: ``[rows, taps]`` source indices of every row.
        weights: ``[rows, taps]`` of unit length per row; 0 fills rows of fewer taps.
    """

    columns: NDArray[np.intp]
    weights: NDArray[np.float32]

    def project(self, x: AnyArray) -> AnyArray:
        """The part of ``x`` ``[n_source, ...]`` that is kept, in its own basis."""
        kept = np.zeros((len(self.columns), *x.shape[1:]), dtype=x.dtype)
        spread = (-1, *[1] * (x.ndim - 1))
        for column, weight in zip(self.columns.T, self.weights.T, strict=True):
            kept += weight.reshape(spread) * x[column]
        result = np.zeros_like(x)
        for column, weight in zip(self.columns.T, self.weights.T, strict=True):
            used = weight != 0
            result[column[used]] = weight[used].reshape(spread) * kept[used]
        return result


@dataclass(frozen=True, slots=True)
class Basis:
    """Any other operator.

    Attributes:
        columns: ``[n_source, rank]``, orthonormal.
    """

    columns: NDArray[np.float32]

    def project(self, x: AnyArray) -> AnyArray:
        """The part of ``x`` ``[n_source, ...]`` that is kept, in its own basis."""
        flat = x.reshape(len(x), -1)
        kept: AnyArray = (self.columns @ (self.columns.T @ flat)).reshape(x.shape)
        return kept


Projection = Blocks | Basis


def projection(operator: Matrix) -> Projection:
    """The projection onto the row space of ``operator`` ``[n_target, n_source]``, n_target <= n_source, full rank."""
    used = operator != 0
    if used.any(axis=1).all() and (used.sum(axis=0) <= 1).all():
        taps = int(used.sum(axis=1).max())
        columns = np.argsort(~used, axis=1, kind="stable")[:, :taps]
        weights = np.take_along_axis(operator, columns, axis=1)
        return Blocks(columns, (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32))
    basis, _ = np.linalg.qr(operator.T)
    return Basis(basis.astype(np.float32))

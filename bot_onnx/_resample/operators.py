"""Fast application of one leaf axis' operator, on any array namespace, in the array's own precision.

Arrays come as ``[pre, n, post]`` with the axis in the middle, a view of the tensor. Five engines, all equal to
:func:`bot_onnx._resample.filters.axis_matrix` up to rounding:

* Haar over a power of two: sums of strided slices, copies when growing, over any whole ratio;
* other ways to grow by whole indices (:mod:`bot_onnx._resample.growth`): picked, or put beside the old ones;
* other filters: the matrix product in blocks of rows, each over the columns its taps touch (a wavelet's matrix is a
  band, so the cost is linear in the axis); dense operators are the case of one block;
* on a CUDA device, for Haar and all other narrow bands: one kernel (:mod:`bot_onnx._resample.fused`);
* the vocabulary: selection. Token ids are looked up, so no two tokens are ever mixed.

The first and the third are written for any namespace, and once more for NumPy: in tiles that stay in cache, shared
among threads. ``docs/speed.md`` has the measurements behind the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array, Floats, Namespace, dtype_name
from bot_onnx._resample.banded import Piece, block_rows, multiply, pieces_of
from bot_onnx._resample.boundary import BoundaryMode
from bot_onnx._resample.cuda import engine_of
from bot_onnx._resample.filters import COPIES, HAAR_NAMES, Form, Matrix, axis_matrix
from bot_onnx._resample.fused import along_axis
from bot_onnx._resample.growth import AGAIN, LAWS, grow, growth_matrix
from bot_onnx._resample.neighbours import copy_into, copy_neighbours, sum_into, sum_neighbours
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role

#: Output rows per block of a banded product: large enough for BLAS, small enough for the band to pay.
BLOCK_ROWS = 128

#: (first row, end row, ((first column, end column), ...)) of one block.
Block = tuple[int, int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class LeafOperator:
    """The operator of one leaf axis.

    Attributes:
        wavelet: name of a discrete wavelet, ``dct``, or a law of growth.
        source: size in the source.
        target: size in the target.
        form: ``unit`` R (unit row sums); ``sqrt`` √rho·R; ``dual`` rho·R~; rho = source / target.
        mode: how a signal goes on beyond its ends.
        max_level: DWT levels at most; None: as many as the ratio has.
    """

    wavelet: str
    source: int
    target: int
    form: Form
    mode: BoundaryMode = "periodization"
    max_level: int | None = None

    @property
    def is_haar(self) -> bool:
        """Haar over a power of two: blocks of neighbours, which no boundary mode reaches beyond."""
        small, large = sorted((self.source, self.target))
        if self.wavelet == COPIES:
            return large % small == 0
        if self.wavelet not in HAAR_NAMES or not _is_power_of_two_times(large, small):
            return False
        return self.max_level is None or self.max_level >= (large // small).bit_length() - 1

    @property
    def is_filter(self) -> bool:
        """No law of growth that only picks indices, or puts new ones beside them."""
        return self.wavelet not in LAWS or self.is_haar

    @property
    def matrix(self) -> Matrix:
        """The float64 reference, ``[target, source]``, read-only."""
        if self.wavelet in LAWS:
            return growth_matrix(self.wavelet, self.source, self.target, self.form)
        return axis_matrix(self.wavelet, self.source, self.target, self.form, self.mode, self.max_level)

    def apply(self, x: Array, xp: Namespace) -> Array:
        """``[pre, source, post]`` to ``[pre, target, post]``."""
        if self.source == self.target:
            return x
        if not self.is_filter:
            return grow(x, self.wavelet, self.target, self.form, xp)
        engine = engine_of(x)
        on_device = None if engine is None else along_axis(self, x, engine)
        if on_device is not None:
            return on_device
        if isinstance(x, np.ndarray):
            return self._on_numpy(x)
        if not self.is_haar:
            return _multiply(self, x, xp)
        if self.target < self.source:
            return sum_neighbours(x, self.source // self.target, self.form, xp)
        return copy_neighbours(x, self.target // self.source, self.form, xp)

    def _on_numpy(self, x: Floats) -> Floats:
        rows = block_rows(self.source, self.target, last=x.shape[2] == 1)
        pieces = None if self.is_haar else _pieces(self, rows, dtype_name(x))
        if not self.is_haar and pieces is None:
            dense: Floats = _multiply(self, x, np)
            return dense
        out: Floats = np.empty((x.shape[0], self.target, x.shape[2]), dtype=x.dtype)
        if pieces is not None:
            multiply(pieces, x, out)
        elif self.target < self.source:
            sum_into(x, self.source // self.target, self.form, out)
        else:
            copy_into(x, self.target // self.source, self.form, out)
        return out


@dataclass(frozen=True, slots=True)
class Filters:
    """What the operators of a run have in common.

    Attributes:
        shrinking, growing: wavelet (or ``dct``) of axes that shrink, and of those that grow, or ``copies``.
        mode: how a signal goes on beyond its ends.
        max_level: DWT levels of an axis at most; None: as many as its ratio has.
    """

    shrinking: str
    growing: str
    mode: BoundaryMode = "periodization"
    max_level: int | None = None

    def wavelet(self, source: int, target: int) -> str:
        """The one for a size change."""
        return self.shrinking if target < source else self.growing

    def operator(self, source: int, target: int, form: Form) -> LeafOperator:
        """The operator of a leaf of these sizes."""
        return LeafOperator(self.wavelet(source, target), source, target, form, self.mode, self.max_level)

    def of_axis(self, axis: Axis, form: Form) -> LeafOperator:
        """The operator of a leaf axis: its law where it grows by one of its own."""
        operator = self.operator(axis.source, axis.target, form)
        if axis.target > axis.source:
            if axis.law != "even":
                return replace(operator, wavelet=axis.law)
            if axis.role == Role.POSITIONS and operator.wavelet == COPIES:
                return replace(operator, wavelet=AGAIN)
        return operator


def _is_power_of_two_times(large: int, small: int) -> bool:
    ratio = large // small
    return large == ratio * small and ratio & (ratio - 1) == 0


def _multiply(operator: LeafOperator, x: Array, xp: Namespace) -> Array:
    blocks = _placed_blocks(operator, xp, dtype_name(x))
    pieces = []
    for weights, runs in blocks:
        piece, offset = None, 0
        for start, stop in runs:
            part = _product(weights[:, offset : offset + stop - start], x[:, start:stop, :], xp)
            piece = part if piece is None else piece + part
            offset += stop - start
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=1)


def _product(weights: Array, x: Array, xp: Namespace) -> Array:
    """``[rows, n]`` times ``[pre, n, post]`` over n."""
    pre, n, post = x.shape
    if post == 1:
        return xp.reshape(xp.matmul(xp.reshape(x, (pre, n)), weights.T), (pre, weights.shape[0], 1))
    return xp.matmul(weights, x)


def row_blocks(matrix: NDArray[np.float64]) -> tuple[Block, ...]:
    """Row blocks of a banded matrix with the column runs they touch; one dense block where that saves nothing."""
    rows, columns = matrix.shape
    blocks: list[Block] = []
    for first in range(0, rows, BLOCK_ROWS):
        end = min(first + BLOCK_ROWS, rows)
        used = np.flatnonzero(np.any(matrix[first:end] != 0.0, axis=0))
        cuts = np.flatnonzero(np.diff(used) > BLOCK_ROWS)
        starts, ends = np.append(used[0], used[cuts + 1]), np.append(used[cuts], used[-1]) + 1
        blocks.append((first, end, tuple((int(a), int(b)) for a, b in zip(starts, ends, strict=True))))
    work = sum((end - first) * sum(b - a for a, b in runs) for first, end, runs in blocks)
    return tuple(blocks) if 2 * work < rows * columns else ((0, rows, ((0, columns),)),)


@lru_cache(maxsize=8)
def _placed_blocks(
    operator: LeafOperator, xp: Namespace, dtype: str
) -> list[tuple[Array, tuple[tuple[int, int], ...]]]:
    """The blocks' weights as arrays of ``xp`` in working precision: only these are kept, not the whole matrix."""
    matrix = operator.matrix
    placed = []
    for first, end, runs in row_blocks(matrix):
        weights = np.concatenate([matrix[first:end, a:b] for a, b in runs], axis=1).astype(dtype)
        placed.append((xp.asarray(weights), runs))
    return placed


@lru_cache(maxsize=32)
def _pieces(operator: LeafOperator, rows: int, dtype: str) -> tuple[Piece, ...] | None:
    return pieces_of(operator.matrix, rows, dtype)


def select_vocabulary(x: Array, target: int, xp: Namespace) -> Array:
    """Change the vocabulary axis of ``[pre, n, post]``: the first ``target`` tokens, or new ones at the mean of all."""
    n = x.shape[1]
    if target <= n:
        return x[:, :target, :]
    mean = xp.mean(x, axis=1, keepdims=True)
    return xp.concat([x, xp.broadcast_to(mean, (x.shape[0], target - n, x.shape[2]))], axis=1)

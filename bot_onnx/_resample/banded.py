"""Banded operators on the CPU: small matrix products in tiles that stay in cache.

A wavelet's matrix repeats itself: away from the ends every block of b rows is the block before it, moved by
b·source/target columns. So one matrix of b rows and a few taps does the whole axis, applied to overlapping windows
of the data, which are views. The products are kept too small for BLAS to spread over threads of its own; they are
shared among threads here instead. At the ends, where boundary modes act, blocks have weights of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Floats
from bot_onnx._resample.parallel import share

#: Rows of a block of an axis in the middle, whose windows are wide, and of the last axis shrinking and growing: the
#: best of 4 to 64 as measured (docs/speed.md).
MIDDLE_ROWS, SHRINKING_ROWS, GROWING_ROWS = 8, 16, 32
#: Indices of the axes before that one product of the last axis takes together: fewer where they lie whole pages apart,
#: because the first-level cache then keeps about twelve of them.
LAST_GROUP, PAGED_GROUP, PAGE = 32, 16, 4096
#: Multiply-adds of one product: OpenBLAS stays on the calling thread up to 2¹⁸.
MOST_WORK = 1 << 18
#: Widest window over the axes behind, in elements, and what its width is a multiple of: a cache line of float32.
WIDEST, LINE = 2048, 16
#: Elements of a result that one thread takes at a time.
SHARE = 1 << 17
#: Entries of an operator that is worth multiplying whole (a few layers or heads).
SMALL = 1 << 12


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Blocks of equal weights: rows ``first + b·len(weights)`` on read columns ``column + b·step`` on.

    Attributes:
        first: first output row.
        blocks: number of blocks b.
        column, step: first input column of the first block, and from block to block.
        weights: ``[rows, taps]`` in working precision, the transpose of an array in memory order as well.
        gathered: for a single block whose columns do not lie side by side: which they are.
    """

    first: int
    blocks: int
    column: int
    step: int
    weights: Floats
    gathered: NDArray[np.intp] | None = None


#: One batched matrix product: left, right, result.
Product = tuple[Floats, Floats, Floats]


def block_rows(source: int, target: int, *, last: bool) -> int:
    """Rows of the blocks of an axis that is the last one, or not."""
    if not last:
        return MIDDLE_ROWS
    return GROWING_ROWS if target > source else SHRINKING_ROWS


def pieces_of(matrix: NDArray[np.float64], rows: int, dtype: str) -> tuple[Piece, ...] | None:
    """Split ``[target, source]`` into pieces of ``rows``-row blocks; None where the matrix is no narrow band."""
    target, source = matrix.shape
    if matrix.size <= SMALL:
        return (Piece(0, 1, 0, 0, matrix.astype(dtype)),)
    step, rest = divmod(rows * source, target)
    middle = target // rows // 2
    used = np.flatnonzero(matrix[middle * rows : (middle + 1) * rows].any(axis=0))
    if rest or not used.size or 2 * (used[-1] + 1 - used[0]) > source:
        return None
    offset, width = int(used[0]) - middle * step, int(used[-1] + 1 - used[0])
    model = matrix[middle * rows : (middle + 1) * rows, used[0] : used[-1] + 1]
    first, last = middle, middle
    while _repeats(matrix, model, first - 1, offset + (first - 1) * step):
        first -= 1
    while _repeats(matrix, model, last + 1, offset + (last + 1) * step):
        last += 1
    inner = Piece(first * rows, last + 1 - first, offset + first * step, step, model.astype(dtype))
    ends = [(row, min(row + rows, first * rows)) for row in range(0, first * rows, rows)]
    ends += [(row, min(row + rows, target)) for row in range((last + 1) * rows, target, rows)]
    pieces = (inner, *(_end_piece(matrix, start, stop, dtype) for start, stop in ends))
    work = sum(piece.blocks * piece.weights.size for piece in pieces)
    return pieces if 2 * work < matrix.size and all(p.weights.shape[1] <= 8 * width for p in pieces) else None


def _repeats(matrix: NDArray[np.float64], model: NDArray[np.float64], block: int, column: int) -> bool:
    """Whether a block of rows is ``model`` at ``column`` and zero beside it."""
    rows, width = model.shape
    if block < 0 or (block + 1) * rows > matrix.shape[0] or column < 0 or column + width > matrix.shape[1]:
        return False
    whole = matrix[block * rows : (block + 1) * rows]
    part = whole[:, column : column + width]
    # Products of several levels are rounded differently from row to row.
    alike = np.allclose(part, model, rtol=0.0, atol=1e-14)
    return alike and np.count_nonzero(whole) == np.count_nonzero(part)


def _end_piece(matrix: NDArray[np.float64], start: int, stop: int, dtype: str) -> Piece:
    used = np.flatnonzero(matrix[start:stop].any(axis=0))
    return Piece(start, 1, 0, 0, matrix[start:stop, used].astype(dtype), used)


def multiply(pieces: tuple[Piece, ...], x: Floats, out: Floats) -> None:
    """Fill ``out`` ``[pre, target, post]`` with the operator's product with ``x`` ``[pre, source, post]``."""
    products: list[Product] = []
    for piece in pieces:
        rows = len(piece.weights)
        source = x[:, piece.column :, :] if piece.gathered is None else np.take(x, piece.gathered, axis=1)
        result = out[:, piece.first : piece.first + rows * piece.blocks, :]
        products += _on_last(piece, source, result) if x.shape[2] == 1 else _in_middle(piece, source, result)
    share(lambda product: np.matmul(product[0], product[1], out=product[2]), [*_shares(products)])


def _in_middle(piece: Piece, x: Floats, out: Floats) -> Iterator[Product]:
    """Products weights · window, a window being ``[taps, tile]`` of the axis and the axes behind it."""
    pre, _, post = x.shape
    rows, taps = piece.weights.shape
    (x0, x1, x2), (y0, y1, y2) = x.strides, out.strides
    for start, count, size in _even_tiles(post, _width(post, MOST_WORK // piece.weights.size)):
        windows = as_strided(
            x[:, :, start:],
            (pre, count, piece.blocks, taps, size),
            (x0, size * x2, piece.step * x1, x1, x2),
            writeable=False,
        )
        results = as_strided(
            out[:, :, start:], (pre, count, piece.blocks, rows, size), (y0, size * y2, rows * y1, y1, y2)
        )
        yield piece.weights, windows, results


def _on_last(piece: Piece, x: Floats, out: Floats) -> Iterator[Product]:
    """Products window · weightsᵀ, a window being ``[group, taps]`` of the axes before and the axis."""
    rows, taps = piece.weights.shape
    (x0, x1, _), (y0, y1, _) = x.strides, out.strides
    # Contiguous in this order BLAS reads it half again as fast.
    weights = np.ascontiguousarray(piece.weights.T)
    group = PAGED_GROUP if x0 % PAGE == 0 or y0 % PAGE == 0 else LAST_GROUP
    for start, count, size in _even_tiles(x.shape[0], min(group, x.shape[0])):
        windows = as_strided(
            x[start:], (count, piece.blocks, size, taps), (size * x0, piece.step * x1, x0, x1), writeable=False
        )
        results = as_strided(out[start:], (count, piece.blocks, size, rows), (size * y0, rows * y1, y0, y1))
        yield windows, weights, results


def _width(post: int, most: int) -> int:
    """Width of windows that share ``post`` about evenly, at most ``most`` (a line at least)."""
    widest = max(LINE, min(WIDEST, most) // LINE * LINE)
    windows = -(-post // widest)
    return min(post, -(-post // (windows * LINE)) * LINE)


def _even_tiles(length: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(start, number, size) of tiles of equal size, and of what is left over."""
    whole, rest = divmod(length, size)
    if whole:
        yield 0, whole, size
    if rest:
        yield whole * size, 1, rest


def _shares(products: list[Product]) -> Iterator[Product]:
    """The products in parts that take a thread some tens of microseconds."""
    for left, right, out in products:
        batch = out.shape[:-2]
        axis = max(range(len(batch)), key=lambda i: batch[i])
        size = max(1, batch[axis] * SHARE // max(1, out.size))
        for start in range(0, batch[axis], size):
            here = (slice(None),) * axis + (slice(start, start + size),)
            yield left[here] if left.ndim > 2 else left, right[here] if right.ndim > 2 else right, out[here]

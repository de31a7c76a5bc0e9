"""Banded operators as tables for the kernel in ``separable.cu``: which indices every output reads, and their weights.

Outputs go by groups of a few neighbours. A group reads one run of ``taps`` indices, where the last index is followed
by the first: a periodized wavelet reads across the ends, and all other boundary modes read near one of them. Away from
the ends the weights repeat themselves, so that few different blocks are kept, and they stay in the caches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Floats

Indices = NDArray[np.int32]

#: Longest run of a group: wider operators are left to matrix products.
MOST_TAPS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A banded operator ``[target, source]`` by groups of ``group`` outputs.

    Attributes:
        source, target, group: sizes.
        starts: int32 ``[groups]``, first index that a group reads.
        blocks: int32 ``[groups]``, which of the weights it takes.
        weights: ``[different blocks, taps, group]`` in working precision.
    """

    source: int
    target: int
    group: int
    starts: Indices
    blocks: Indices
    weights: Floats

    @property
    def taps(self) -> int:
        """Indices that a group reads."""
        return int(self.weights.shape[1])


def band_of(matrix: NDArray[np.float64], group: int, dtype: str, gain: float = 1.0) -> Band | None:
    """The tables of ``gain`` times ``[target, source]``; None where a group reads more than :data:`MOST_TAPS`."""
    target, source = matrix.shape
    firsts = range(0, target, group)
    runs = [_run(np.flatnonzero(matrix[first : first + group].any(axis=0)), source) for first in firsts]
    taps = max(length for _, length in runs)
    if taps > MOST_TAPS:
        return None
    starts = np.array([_moved(start, length, taps, source) for start, length in runs], dtype=np.int32)
    blocks = np.zeros((len(starts), taps, group))
    for block, start, first in zip(blocks, starts, firsts, strict=True):
        rows = matrix[first : first + group]
        block[:, : len(rows)] = rows[:, (start + np.arange(taps)) % source].T
    return _kept(source, target, starts, blocks, dtype, gain)


def neighbours_band(source: int, target: int, group: int, dtype: str, gain: float = 1.0) -> Band | None:
    """Haar over a whole ratio, ``gain`` on every neighbour that is summed or copied, without its matrix.

    An axis that stays as it is has the ratio 1. None as for :func:`band_of`.
    """
    outputs = np.arange(0, target, group)[:, None] + np.arange(group)
    first = outputs * source // target
    end = np.where(outputs < target, np.maximum(first + 1, (outputs + 1) * source // target), 0)
    taps = int((end.max(axis=1) - first[:, 0]).max())
    if taps > MOST_TAPS:
        return None
    starts = np.maximum(0, np.minimum(first[:, 0], source - taps))
    read = (starts[:, None] + np.arange(taps))[:, :, None]
    blocks = ((read >= first[:, None, :]) & (read < end[:, None, :])).astype(np.float64)
    return _kept(source, target, starts.astype(np.int32), blocks, dtype, gain)


def _kept(source: int, target: int, starts: Indices, blocks: NDArray[np.float64], dtype: str, gain: float) -> Band:
    """The band with every block of weights once."""
    rounded = (blocks * gain).astype(dtype)
    _, first, which = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return Band(source, target, blocks.shape[2], starts, which.reshape(-1).astype(np.int32), rounded[first])


def _run(used: NDArray[np.intp], size: int) -> tuple[int, int]:
    """(start, length) of the shortest run around a ring of ``size`` that holds the indices."""
    if not used.size:
        return 0, 1
    gaps = np.diff(used, append=used[0] + size)
    last = int(gaps.argmax())
    return int(used[(last + 1) % len(used)]), size - int(gaps[last]) + 1


def _moved(start: int, length: int, taps: int, size: int) -> int:
    """The start of a run made ``taps`` long: one that did not reach across the end goes on not to."""
    return max(0, size - taps) if start + length <= size < start + taps else start

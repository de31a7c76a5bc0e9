"""How the kernel in ``separable.cu`` shares its work: tiles of the result, and what of the source each one needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from bot_onnx._resample.bands import Band, Indices

#: Threads of a block; rows and columns of the result that one takes at a time.
THREADS, ROWS, COLS = 256, 4, 2
#: Strands of the columns in shared memory: their length is 8 more than a multiple of 32, the number of banks.
LANES, BANKS = 4, 32
#: Bytes of shared memory that a block may have everywhere without asking.
SHARED = 48 << 10
_TILE_ROWS = (8, 16, 32, 64)
_TILE_GROUPS = (16, 32, 48, 56, 60, 64, 96, 112, 120, 128)


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles of ``rows`` rows and ``groups`` groups of columns.

    Attributes:
        rows, groups: see above.
        base, extent: int32 ``[column tiles]``: the columns of the source that a tile reads.
        offset: int32 ``[column groups]``: where in its tile's columns a group begins.
        strand: elements of one strand in shared memory.
    """

    rows: int
    groups: int
    base: Indices
    extent: Indices
    offset: Indices
    strand: int

    def shared(self, itemsize: int) -> int:
        """Bytes of shared memory."""
        return self.rows * LANES * self.strand * itemsize


def tiles_of(rows: Band, columns: Band, vector: int, itemsize: int) -> Tiles | None:
    """The tiles of least estimated work; None where none of them fits.

    Args:
        rows, columns: the operators, in groups of :data:`ROWS` and :data:`COLS`.
        vector: columns of the source that a thread reads at once; the source has a multiple of it.
        itemsize: bytes of a number in shared memory.
    """
    found: list[tuple[float, Tiles]] = []
    for groups in _TILE_GROUPS:
        base, extent, offset = _windows(columns, groups, vector)
        strand = _strand(int(extent.max()))
        for height in _TILE_ROWS:
            tiles = Tiles(height, groups, base, extent, offset, strand)
            if tiles.shared(itemsize) <= SHARED:
                found.append((_work(tiles, rows, columns, vector), tiles))
        if groups >= len(columns.starts):
            break
    return min(found, key=lambda one: one[0])[1] if found else None


def _windows(band: Band, groups: int, vector: int) -> tuple[Indices, Indices, Indices]:
    """Base and extent of every tile, and the offset of every group."""
    bases, extents, offsets = [], [], []
    for first in range(0, len(band.starts), groups):
        starts = band.starts[first : first + groups].astype(np.int64)
        # Around the ring, counted from the start that leaves the shortest way to all others.
        sorted_starts = np.unique(starts)
        gaps = np.diff(sorted_starts, append=sorted_starts[0] + band.source)
        base = int(sorted_starts[(int(gaps.argmax()) + 1) % len(sorted_starts)])
        base -= base % vector
        offset = (starts - base) % band.source
        bases.append(base)
        extents.append(int(offset.max()) + band.taps)
        offsets.append(offset)
    return np.array(bases, np.int32), np.array(extents, np.int32), np.concatenate(offsets).astype(np.int32)


def _strand(extent: int) -> int:
    needed = ceil((extent + LANES) / LANES)
    return needed + (8 - needed) % BANKS


def _work(tiles: Tiles, rows: Band, columns: Band, vector: int) -> float:
    """About the instructions of a thread for one element of the result, and the lines that a tile reads beyond its own.

    An estimate from the code, not measured.
    """
    extent = int(np.median(tiles.extent))
    height, width = min(tiles.rows, rows.target), min(tiles.groups * COLS, columns.target)
    items = ceil(extent / vector) * ceil(height / ROWS)
    first = ceil(items / THREADS) * rows.taps * (vector * ROWS + 3)
    lanes = THREADS // tiles.groups
    second = ceil(height / lanes) * (columns.taps * (COLS + 1) + 4)
    read = (height * rows.source / rows.target + rows.taps) * extent / THREADS
    return (first + second + 8 * read) / (height * width)

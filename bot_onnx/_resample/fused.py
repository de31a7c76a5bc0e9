"""One or two banded operators of a tensor in one pass over it, by the kernel in ``separable.cu``.

The kernel runs on whatever an :class:`Engine` is: CuPy's (:mod:`bot_onnx._resample.cuda`), or a compiler for the host
in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array, dtype_name
from bot_onnx._resample.bands import Band, band_of, neighbours_band
from bot_onnx._resample.filters import Form, Matrix
from bot_onnx._resample.neighbours import neighbours_gain
from bot_onnx._resample.tiles import COLS, ROWS, THREADS, Tiles, tiles_of

#: Name of the kernel, and its text.
KERNEL = "separable"
SOURCE = files(__package__).joinpath("separable.cu").read_text()

#: Blocks of a grid along its second and third direction.
MOST_BLOCKS = 65535
#: An axis behind the operator's that is shorter than this leaves most threads of a tile without work.
SHORTEST = 32
_TYPES = {"float16": "unsigned short", "float32": "float", "float64": "double"}


class Operator(Protocol):
    """What is asked of the operator of an axis: :class:`bot_onnx._resample.operators.LeafOperator`, hashable."""

    @property
    def source(self) -> int:
        """Size in the source."""

    @property
    def target(self) -> int:
        """Size in the target."""

    @property
    def form(self) -> Form:
        """Its gain."""

    @property
    def is_haar(self) -> bool:
        """Haar over a power of two."""

    @property
    def matrix(self) -> Matrix:
        """``[target, source]``."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Build:
    """What the kernel is compiled for: see its text."""

    source: Literal["float16", "float32", "float64"]
    vector: int
    paired: bool
    row_taps: int
    col_taps: int
    tile_rows: int

    @property
    def work(self) -> str:
        """Type of the arithmetic and the result."""
        return "float64" if self.source == "float64" else "float32"

    def definitions(self) -> tuple[str, ...]:
        """Options of a compiler."""
        numbers = {
            "VEC": self.vector, "PAIRED": int(self.paired), "ROW_TAPS": self.row_taps, "COL_TAPS": self.col_taps,
            "TILE_ROWS": self.tile_rows, "ROWS": ROWS, "COLS": COLS, "THREADS": THREADS,
            "HALF": int(self.source == "float16"),
        }  # fmt: skip
        types = (f"-DSOURCE={_TYPES[self.source]}", f"-DWORK={_TYPES[self.work]}")
        return (*types, *(f"-D{name}={number}" for name, number in numbers.items()))


class Engine(Protocol):
    """A device, and its arrays; hashable."""

    def __hash__(self) -> int: ...

    def place(self, array: NDArray[np.generic]) -> Array:
        """The array on the device."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array on the device, in C order."""

    def address(self, array: Array) -> int:
        """Where its first element lies."""

    def launch(self, build: Build, grid: tuple[int, int, int], shared: int, arguments: Sequence[object]) -> None:
        """Start the kernel on ``grid`` blocks with ``shared`` bytes each; arguments in its order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """The tables of a pair of operators, on the device."""

    rows: Band
    columns: Band
    tiles: Tiles
    placed: tuple[Array, ...]


def along_axis(operator: Operator, x: Array, engine: Engine) -> Array | None:
    """The operator along the middle of ``[pre, n, post]``; None where a matrix product does better."""
    if x.shape[2] == 1:
        y = separable(x[None, :, :, 0][:, :, None, :], None, operator, engine)
        return None if y is None else y[0, :, 0, :][:, :, None]
    if x.shape[2] < SHORTEST:
        return None
    y = separable(x[:, :, None, :], operator, None, engine)
    return None if y is None else y[:, :, 0, :]


def separable(
    x: Array, rows: Operator | None, columns: Operator | None, engine: Engine, gain: float = 1.0
) -> Array | None:
    """Both operators in one pass, times ``gain``.

    Args:
        x: float16, float32 or float64 ``[outer, n, inner, m]``, columns side by side in memory.
        rows, columns: along n and along m; None: the axis stays.
        engine: device of ``x``.
        gain: of the result.

    Returns:
        ``[outer, rows.target, inner, columns.target]`` in working precision (float32 for float16); None where an
        operator is no narrow band, or the sizes are beyond the kernel's.
    """
    kind = dtype_name(x)
    outer, n, inner, m = x.shape
    if kind not in _TYPES or 0 in x.shape or (m > 1 and x.strides[3] != x.dtype.itemsize):
        return None
    vector = _vector(x, engine)
    work: Literal["float32", "float64"] = "float64" if kind == "float64" else "float32"
    tables = _tables(rows, columns, n, m, gain, work, vector, engine)
    if tables is None:
        return None
    row_band, col_band, tiles = tables.rows, tables.columns, tables.tiles
    build = Build(kind, vector, col_band.target % COLS == 0, row_band.taps, col_band.taps, tiles.rows)  # type: ignore[arg-type]
    y = engine.empty((outer, row_band.target, inner, col_band.target), work)
    grid_rows, together = -(-row_band.target // tiles.rows), MOST_BLOCKS // inner
    if grid_rows > MOST_BLOCKS or not together:
        return None
    sizes = (n, m, row_band.target, col_band.target, tiles.groups, tiles.strand, inner)
    for first in range(0, outer, together):
        part, out = x[first : first + together], y[first : first + together]
        strides = (*_strides(part), *_strides(out))
        arguments = (part, out, *tables.placed, *map(np.int32, sizes), *map(np.int64, strides))
        grid = (len(tiles.base), grid_rows, part.shape[0] * inner)
        engine.launch(build, grid, tiles.shared(y.dtype.itemsize), arguments)
    return y


def _strides(x: Array) -> tuple[int, int, int]:
    """Outer, inner and row stride in elements; 0 along an axis of one index."""
    outer, row, inner, _ = (
        0 if size == 1 else stride // x.dtype.itemsize for size, stride in zip(x.shape, x.strides, strict=True)
    )
    return outer, inner, row


def _vector(x: Array, engine: Engine) -> int:
    """Columns that a thread may read at once: 16 bytes at most (8 of float16), and all of them whole."""
    for vector in (2,) if x.dtype.itemsize == 8 else (4, 2):
        whole = not any(stride % vector for stride in _strides(x)) and x.shape[3] % vector == 0
        if whole and engine.address(x) % (vector * x.dtype.itemsize) == 0:
            return vector
    return 1


@lru_cache(maxsize=64)
def _tables(
    rows: Operator | None,
    columns: Operator | None,
    n: int,
    m: int,
    gain: float,
    dtype: str,
    vector: int,
    engine: Engine,
) -> _Tables | None:
    row_band, col_band = _band(rows, n, ROWS, dtype, gain), _band(columns, m, COLS, dtype, 1.0)
    if row_band is None or col_band is None:
        return None
    tiles = tiles_of(row_band, col_band, vector, np.dtype(dtype).itemsize)
    if tiles is None:
        return None
    arrays = (
        row_band.starts, row_band.blocks, row_band.weights,
        tiles.base, tiles.extent, tiles.offset, col_band.blocks, col_band.weights,
    )  # fmt: skip
    return _Tables(row_band, col_band, tiles, tuple(engine.place(array) for array in arrays))


def _band(operator: Operator | None, size: int, group: int, dtype: str, gain: float) -> Band | None:
    if operator is None:
        return neighbours_band(size, size, group, dtype, gain)
    if operator.is_haar:
        own = neighbours_gain(operator.source, operator.target, operator.form)
        return neighbours_band(operator.source, operator.target, group, dtype, gain * own)
    return band_of(operator.matrix, group, dtype, gain)

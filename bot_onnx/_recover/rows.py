"""Samples that are not held in memory: in a file without a name, or worked out when they are asked for."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bot_onnx._recover.types import Array

Indices = NDArray[np.int64]
_BLOCK = 4096  #: samples hashed at a time


class Rows(Protocol):
    """An input for a number of samples: an array, or what gives the rows that are asked for as one."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, chosen: Any, /) -> Any:
        """Their rows."""
        ...


class Spool:
    """Numbers of one type that go to a file without a name, and come back as an array that the system pages in.

    Args:
        dtype: of the numbers.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="bot-onnx-")  # noqa: SIM115  (open as long as it is)
        self._dtype, self._count = dtype, 0

    def __del__(self) -> None:
        """Let the file go; what was handed out holds it on."""
        self._file.close()

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def append(self, array: Array) -> None:
        """Put numbers behind those that are there."""
        array = np.ascontiguousarray(array, self._dtype)
        self._file.write(array.reshape(-1).view(np.uint8).data)
        self._count += array.size

    def array(self, *shape: int) -> Array:
        """All of them, as an array of a shape, or in a row."""
        self._file.flush()
        if not self._count:
            return np.zeros(shape or (0,), self._dtype)
        return np.memmap(self._file, self._dtype, "r", shape=shape or (self._count,))


@dataclass(frozen=True, eq=False)
class Padded:
    """Rows of several lengths, filled up to the longest of those that are asked for, or to a width.

    Attributes:
        flat: all numbers, row after row. starts, lengths: of the rows, per sample.
        fill: what follows a shorter one. dtype: of what is given. width: None: as long as the longest.
    """

    flat: Array
    starts: Indices
    lengths: Indices
    fill: float
    dtype: np.dtype[Any]
    width: int | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.lengths)

    def __getitem__(self, chosen: Any) -> Array:
        """Rows ``[chosen, width]``."""
        lengths, starts = self.lengths[chosen], self.starts[chosen]
        width = self.width if self.width is not None else int(lengths.max(initial=1))
        made = np.full((len(lengths), width), self.fill, self.dtype)
        for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            made[row, :length] = self.flat[start : start + length]
        return made


@dataclass(frozen=True, eq=False)
class Places:
    """What follows from lengths alone: 1 where a token is and 0 behind it, or the place of every token."""

    lengths: Indices
    dtype: np.dtype[Any]
    width: int | None = None
    mask: bool = True

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.lengths)

    def __getitem__(self, chosen: Any) -> Array:
        """Rows ``[chosen, width]``."""
        lengths = self.lengths[chosen][:, None]
        width = self.width if self.width is not None else int(lengths.max(initial=1))
        places = np.arange(width)[None]
        found = places < lengths if self.mask else np.minimum(places, np.maximum(lengths - 1, 0))
        return np.asarray(found.astype(self.dtype))


def starts_of(lengths: Indices) -> Indices:
    """Where rows begin that stand one behind the other."""
    return np.asarray(np.cumsum(lengths) - lengths, np.int64)


def digest_rows(arrays: Mapping[str, Rows]) -> str:
    """SHA-256 of names, types and values, some samples at a time."""
    made = hashlib.sha256()
    for name, rows in sorted(arrays.items()):
        made.update(f"{name} {len(rows)}".encode())
        for start in range(0, len(rows), _BLOCK):
            block = np.ascontiguousarray(rows[np.arange(start, min(start + _BLOCK, len(rows)))])
            made.update(f"{block.dtype.str} {block.shape}".encode())
            made.update(block.reshape(-1).view(np.uint8).data)
    return made.hexdigest()

"""A few rows of a weight: what an analysis looks at, without the rest where that lies elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

from bot_onnx._onnxfile.weight_files import MappedTensor, Span, WeightFile, shown


class Peek:
    """An array in a file, of which rows along its first axis come into reach when they are asked for.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(self, file: WeightFile, offset: int, values: NDArray[Any]) -> None:
        """Look at ``values``, a view of the file's map that begins at ``offset``, in the order of the file."""
        self._file, self._offset, self._values = file, offset, values
        self.shape, self.dtype = values.shape, values.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return self._values.size

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._values)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Rows, or of a tuple what the rest of it takes of them."""
        self.fetch(key[0] if isinstance(key, tuple) else key)
        found: NDArray[Any] = self._values[key]
        return found

    def fetch(self, *rows: Any) -> None:
        """Bring rows into reach that will be asked for, all at once."""
        every = np.arange(len(self))
        self._file.ensure(*(span for some in rows for span in self._spans(every[some])))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        self._file.ensure((self._offset, self._values.nbytes))
        return np.asarray(self._values, dtype=dtype, copy=copy)

    def astype(self, dtype: DTypeLike) -> NDArray[Any]:
        """All of it, in another type."""
        return np.asarray(self).astype(dtype)

    def reshape(self, *shape: Any) -> Peek:
        """The same values in another shape."""
        return Peek(self._file, self._offset, self._values.reshape(*shape))

    def _spans(self, rows: NDArray[np.int64]) -> Iterable[Span]:
        nbytes = self._values[:1].nbytes
        wanted = np.unique(np.atleast_1d(rows))
        for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1):
            if run.size:
                yield self._offset + int(run[0]) * nbytes, run.size * nbytes


Rows = NDArray[Any] | Peek


def peeked(tensor: ir.TensorProtocol) -> Rows:
    """The values of a tensor, for who looks at a few rows of them."""
    if isinstance(tensor, MappedTensor) and tensor.file.partial and tensor.dtype.bitwidth % 8 == 0 and tensor.size:
        stored = np.dtype(tensor.dtype.numpy()).newbyteorder("<")
        flat = np.frombuffer(tensor.file.buffer, stored, tensor.size, tensor.offset or 0)
        return Peek(tensor.file, tensor.offset or 0, flat.reshape(tensor.shape.numpy()))
    return shown(tensor)

"""A tensor of an opened file: its message, and the values where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.weight_files import WeightFile, view


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the file: its message, and where its values lie if the message does not hold them.

    Attributes:
        proto: the message in :attr:`Source.proto`.
        dtype, shape: of the tensor.
        file: the file that holds the values, or None if ``proto`` does.
        offset, nbytes: where in ``file``.
    """

    proto: onnx.TensorProto
    dtype: ir.DataType
    shape: tuple[int, ...]
    file: WeightFile | None
    offset: int
    nbytes: int

    def numpy(self) -> NDArray[np.generic]:
        """Show the values, read-only; a view of the file's map wherever the data type allows."""
        if self.file is not None:
            return view(self.file, self.offset, self.dtype, self.shape, mapped=True)
        if self.dtype == ir.DataType.STRING:
            array = np.array(list(self.proto.string_data), dtype=object).reshape(self.shape)
        else:
            array = np.array(ir.serde.TensorProtoTensor(self.proto).numpy())
        array.flags.writeable = False
        return array

    def chunks(self, scratch: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Yield the values as raw little-endian bytes, at most ``scratch.size`` at a time."""
        if self.file is not None:
            yield from self.file.chunks(self.offset, self.nbytes, scratch)
            return
        raw = np.frombuffer(ir.serde.TensorProtoTensor(self.proto).tobytes(), np.uint8)
        for start in range(0, raw.size, scratch.size):
            yield raw[start : start + scratch.size].copy()

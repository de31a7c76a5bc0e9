"""Where the values of a tensor lie: memory maps of the model file and of its external data files.

A map costs address space, not memory: pages come in when they are read and can be handed back
(:meth:`WeightFile.release`). Tensors that are looked at one after the other hand them back by themselves: a pass over
all weights takes little more memory than the largest of them.
External data must stay in the model's folder, as the ONNX specification demands, links included; for a model that is
itself a link (download caches keep the files elsewhere) the folder of the real file counts as well.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx.errors import GraphError

#: Bytes shown of a file before the pages of what was shown earlier are handed back.
RESIDENT_BYTES: Final = 1 << 25


class WeightFile:
    """One file, open for reading: mapped for random access, streamed for single passes.

    Attributes:
        path: the real path, links resolved.
        size: length in bytes when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        try:
            # Opened as named: an unnamed file under /proc has a real path that leads nowhere.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise GraphError(f"{path} is not a regular file: name a file that holds a model")
            self._stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise GraphError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
        self.size = os.fstat(self._stream.fileno()).st_size
        self._map = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None
        self._shown = 0

    @property
    def buffer(self) -> mmap.mmap | bytes:
        """The whole file, mapped read-only."""
        return b"" if self._map is None else self._map

    def chunks(self, offset: int, nbytes: int, scratch: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Read ``nbytes`` from ``offset`` on through ``scratch``; each chunk is valid until the next one.

        Unlike the map this leaves no pages behind in the process, and every chunk starts aligned.
        """
        self._stream.seek(offset)
        left = nbytes
        while left:
            window = scratch[: min(left, scratch.size)]
            filled = 0
            while filled < window.size:
                count = self._stream.readinto(window[filled:].data)
                if not count:
                    raise GraphError(f"{self.path} became shorter while it was read: leave it alone during the run")
                filled += count
            left -= window.size
            yield window

    def show(self, nbytes: int) -> mmap.mmap | bytes:
        """The whole file, of which ``nbytes`` will be looked at; pages of what was shown before may go."""
        if self._shown > RESIDENT_BYTES:
            self.release()
        self._shown += nbytes
        return self.buffer

    def release(self) -> None:
        """Hand the map's pages back to the system; they are read again when needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        self._shown = 0

    def close(self) -> None:
        """Close the file. Arrays that still look into the map keep it alive until they are gone."""
        self._stream.close()
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()


def view(file: WeightFile, offset: int, dtype: ir.DataType, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Show the values at ``offset`` as a read-only array, without a copy where ``dtype`` fills whole bytes.

    The array's start need not be a multiple of its item size: NumPy copes, foreign code may want a copy.
    """
    count = math.prod(shape)
    if dtype.bitwidth % 8:
        nbytes = -(-count * dtype.bitwidth // 8)
        packed = bytes(memoryview(file.buffer)[offset : offset + nbytes])
        array = _unpacked(packed, dtype, shape)
    elif count == 0:
        array = np.empty(shape, dtype.numpy())
    else:
        stored = np.dtype(dtype.numpy()).newbyteorder("<")
        shown = file.show(count * stored.itemsize)
        array = np.frombuffer(shown, dtype=stored, count=count, offset=offset).reshape(shape)
    array.flags.writeable = False
    return array


def _unpacked(packed: bytes, dtype: ir.DataType, shape: tuple[int, ...]) -> NDArray[np.generic]:
    proto = onnx.TensorProto(dims=shape, data_type=dtype.value, raw_data=packed)
    return ir.serde.TensorProtoTensor(proto).numpy()


class MappedTensor(ir.ExternalTensor):
    """An external tensor that reads through its source's map.

    onnx-ir maps the file anew for each tensor and refuses files with several links, which package managers and
    download caches produce; the path was judged when the source was opened.
    """

    __slots__ = ("_file",)

    def __init__(self, tensor: ir.ExternalTensor, file: WeightFile) -> None:
        super().__init__(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape),
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props) or None,
            base_dir=file.path.parent,
        )
        self._file = file

    def numpy(self) -> NDArray[np.generic]:
        """Show the values as a read-only view of the file."""
        return view(self._file, self.offset or 0, self.dtype, self.shape.numpy())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Convert for NumPy."""
        return np.asarray(self.numpy(), dtype=dtype, copy=copy)

    def tobytes(self) -> bytes:
        """Copy the values as they stand in the file."""
        start = self.offset or 0
        return bytes(memoryview(self._file.buffer)[start : start + self.nbytes])

    def tofile(self, file: object) -> None:
        """Write the values to a binary file-like object."""
        start = self.offset or 0
        with memoryview(self._file.buffer)[start : start + self.nbytes] as values:
            file.write(values)  # type: ignore[attr-defined]


def resolve(model: Path, location: str, tensor: str) -> Path:
    """Find the external data file of a tensor: its real path.

    Args:
        model: the model file as the user named it.
        location: what the tensor's ``external_data`` names, relative to the model's folder.
        tensor: name of the tensor, for messages.

    Raises:
        GraphError: the location is empty, absolute, climbs out of the folder (by ``..`` or through a link), or
            nothing is there.
    """
    where = f"tensor {tensor!r} of {model} keeps its values in {location!r}"
    parts = {*PurePosixPath(location).parts, *PureWindowsPath(location).parts}
    if not location or "\0" in location:
        raise GraphError(f"{where}, which is no file name: export the model again")
    if os.path.isabs(location) or PureWindowsPath(location).drive or ".." in parts:
        raise GraphError(f"{where}, outside the model's folder: put the file beside the model and name it relatively")
    path = model.parent / location
    real = Path(os.path.realpath(path))
    allowed = {Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent}
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise GraphError(f"{where}, a link out of the model's folder (to {real}): put the file itself beside the model")
    if not real.is_file():
        raise GraphError(f"{where}, but there is no such file ({path}): copy it beside the model, under this name")
    return real

"""Where the values of a tensor lie: the model file and its external data files, read or mapped.

Values are read into memory of their own, tensor by tensor: a file that becomes shorter meanwhile is then an error, not
the end of the process, which is what touching a map beyond the end of its file is. Only where all weights are at hand
at once (a running model, an export) they are maps. A map costs address space, not memory: pages come in when they are
read and can be handed back (:meth:`WeightFile.release`), and are after every 32 MiB shown.
External data must stay in the model's folder, as the ONNX specification demands, links included; for a model that is
itself a link (download caches keep the files elsewhere) the folder of the real file counts as well.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.lost_files import note_closed, note_open
from bot_onnx.errors import GraphError

Span = tuple[int, int]  #: of a file: from which byte on, and how many

#: Bytes shown of a file before the pages of what was shown earlier are handed back.
RESIDENT_BYTES: Final = 1 << 25


class WeightFile:
    """One file, open for reading: at any place into memory, as a stream for single passes, and as a map.

    Attributes:
        path: the real path, links resolved.
        size: length in bytes when it was opened.
        partial: whether bytes are only here after :meth:`ensure`.
    """

    partial = False

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        try:
            # Opened as named: an unnamed file under /proc has a real path that leads nowhere.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise GraphError(f"{path} is not a regular file: name a file that holds a model")
            self._stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise GraphError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
        self._named = path
        self._state = _state(os.fstat(self._stream.fileno()))
        self.size = self._state[2]
        note_open(self.path)
        self._seeking = threading.Lock()
        self._map = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None
        self._shown = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which opens the same file: under the same path, of the same length and time."""
        return _opened_again, (self.path, *self._state[2:])

    @property
    def buffer(self) -> mmap.mmap | bytes:
        """The whole file, mapped read-only."""
        return b"" if self._map is None else self._map

    def ensure(self, *spans: Span) -> None:
        """Have bytes at hand, for who looks at :attr:`buffer`: of a file on this machine all are."""

    def scanned(self) -> mmap.mmap | bytes:
        """The file as a walk over its message sees it."""
        return self.buffer

    def chunks(self, offset: int, nbytes: int, scratch: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Read ``nbytes`` from ``offset`` on through ``scratch``; each chunk is valid until the next one.

        Unlike the map this leaves no pages behind in the process, and every chunk starts aligned.
        """
        left = nbytes
        while left:
            window = scratch[: min(left, scratch.size)]
            self._fill(offset + nbytes - left, window)
            left -= window.size
            yield window

    def read(self, offset: int, nbytes: int) -> NDArray[np.uint8]:
        """Copy ``nbytes`` from ``offset`` on.

        Raises:
            GraphError: the file has become shorter.
        """
        values = np.empty(nbytes, np.uint8)
        self._fill(offset, values)
        return values

    def check_unchanged(self) -> None:
        """Compare length, time of change and identity of the file with those at the opening.

        Raises:
            GraphError: they differ: what was read before and after need not be of one piece.
        """
        try:
            now = _state(os.fstat(self._stream.fileno()))
            named = _state(os.stat(self._named))
        except OSError as error:
            raise GraphError(f"{self.path} is gone ({error.strerror}): leave it alone during the run") from error
        if now != self._state or named != self._state:
            raise _changed(self.path)

    def _fill(self, offset: int, window: NDArray[np.uint8]) -> None:
        filled = 0
        while filled < window.size:
            count = self._read_into(offset + filled, window[filled:])
            if not count:
                raise _shorter(self.path)
            filled += count

    def _read_into(self, offset: int, window: NDArray[np.uint8]) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._stream.fileno(), [window.data], offset)
        with self._seeking:
            self._stream.seek(offset)
            return self._stream.readinto(window.data) or 0

    def show(self, offset: int, nbytes: int) -> mmap.mmap | bytes:
        """The whole file, of which ``nbytes`` will be looked at from ``offset`` on; pages shown before may go.

        Raises:
            GraphError: the file has become shorter.
        """
        if os.fstat(self._stream.fileno()).st_size < self.size:
            raise _shorter(self.path)
        if self._shown > RESIDENT_BYTES:
            self.release()
        self._shown += nbytes
        self.ensure((offset, nbytes))
        return self.buffer

    def release(self) -> None:
        """Hand the map's pages back to the system; they are read again when needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        self._shown = 0

    def close(self) -> None:
        """Close the file. Arrays that still look into the map keep it alive until they are gone."""
        if not self._stream.closed:
            note_closed(self.path)
        self._stream.close()
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()


class Watched:
    """Files that others read: that they stay as they are, and may be mapped, until the end of the block.

    Args:
        files: their paths; what is no file is passed over.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._states = {file: _state(os.stat(file)) for file in files if file.is_file()}

    def __enter__(self) -> Watched:
        """Begin."""
        for file in self._states:
            note_open(Path(os.path.realpath(file)))
        return self

    def __exit__(self, *failure: object) -> None:
        """End."""
        for file in self._states:
            note_closed(Path(os.path.realpath(file)))

    def check_unchanged(self) -> None:
        """Compare length, time of change and identity of the files with those at the beginning.

        Raises:
            GraphError: those of one differ.
        """
        for file, state in self._states.items():
            try:
                same = _state(os.stat(file)) == state
            except OSError:
                same = False
            if not same:
                raise _changed(file)


def _opened_again(path: Path, size: int, time: int) -> WeightFile:
    """A file that another process has open.

    Raises:
        GraphError: it cannot be read here, or is another one.
    """
    file = WeightFile(path)
    if file._state[2:] != (size, time):
        file.close()
        raise GraphError(f"{path} is another file here than where the command runs: share the same one")
    return file


def _changed(path: Path) -> GraphError:
    return GraphError(f"{path} was changed while it was read: leave it alone during the run, and try again")


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _shorter(path: Path) -> GraphError:
    return GraphError(f"{path} became shorter while it was read: leave it alone during the run")


def view(
    file: WeightFile, offset: int, dtype: ir.DataType, shape: tuple[int, ...], *, mapped: bool = False
) -> NDArray[np.generic]:
    """Give the values at ``offset`` as a read-only array.

    Args:
        file, offset, dtype, shape: where they are and what they mean.
        mapped: show them in the file's map, without a copy where ``dtype`` fills whole bytes; the array's start need
            then not be a multiple of its item size: NumPy copes, foreign code may want a copy.

    Raises:
        GraphError: the file has become shorter since it was opened.
    """
    count = math.prod(shape)
    if dtype.bitwidth % 8:
        packed = file.read(offset, -(-count * dtype.bitwidth // 8)).tobytes()
        array = _unpacked(packed, dtype, shape)
    elif count == 0:
        array = np.empty(shape, dtype.numpy())
    else:
        stored = np.dtype(dtype.numpy()).newbyteorder("<")
        nbytes = count * stored.itemsize
        if mapped:
            array = np.frombuffer(file.show(offset, nbytes), dtype=stored, count=count, offset=offset).reshape(shape)
        else:
            array = file.read(offset, nbytes).view(stored).reshape(shape)
    array.flags.writeable = False
    return array


def _unpacked(packed: bytes, dtype: ir.DataType, shape: tuple[int, ...]) -> NDArray[np.generic]:
    proto = onnx.TensorProto(dims=shape, data_type=dtype.value, raw_data=packed)
    return ir.serde.TensorProtoTensor(proto).numpy()


class MappedTensor(ir.ExternalTensor):
    """An external tensor that reads through its source's open file.

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

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process; see :class:`WeightFile`."""
        return _mapped_again, (
            self.location,
            self.offset,
            self.length,
            self.dtype,
            self.shape.numpy(),
            self.name,
            self._file,
        )

    @property
    def file(self) -> WeightFile:
        """The file that the values lie in."""
        return self._file

    def numpy(self) -> NDArray[np.generic]:
        """Read the values."""
        return view(self._file, self.offset or 0, self.dtype, self.shape.numpy())

    def mapped(self) -> NDArray[np.generic]:
        """Show the values as a read-only view of the file's map."""
        return view(self._file, self.offset or 0, self.dtype, self.shape.numpy(), mapped=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Convert for NumPy."""
        return np.asarray(self.numpy(), dtype=dtype, copy=copy)

    def tobytes(self) -> bytes:
        """Copy the values as they stand in the file."""
        return self._file.read(self.offset or 0, self.nbytes).tobytes()

    def tofile(self, file: object) -> None:
        """Write the values to a binary file-like object."""
        file.write(self._file.read(self.offset or 0, self.nbytes).data)  # type: ignore[attr-defined]


def _mapped_again(
    location: str,
    offset: int | None,
    length: int | None,
    dtype: ir.DataType,
    shape: tuple[int, ...],
    name: str,
    file: WeightFile,
) -> MappedTensor:
    """A tensor that another process has sent."""
    told = ir.ExternalTensor(
        location, offset, length, dtype, shape=ir.Shape(shape), name=name, base_dir=file.path.parent
    )
    return MappedTensor(told, file)


def shown(tensor: ir.TensorProtocol) -> NDArray[Any]:
    """The values of a tensor, for who holds those of many: in the map of their file, where they lie in one."""
    return tensor.mapped() if isinstance(tensor, MappedTensor) else tensor.numpy()


def check_location(location: str, where: str) -> None:
    """Refuse the place of external data that is no name, or one outside the model's folder.

    Args:
        location: what the model says. where: the beginning of the message.

    Raises:
        GraphError: it is refused.
    """
    parts = {*PurePosixPath(location).parts, *PureWindowsPath(location).parts}
    if not location or "\0" in location:
        raise GraphError(f"{where}, which is no file name: export the model again")
    if os.path.isabs(location) or PureWindowsPath(location).drive or ".." in parts:
        raise GraphError(f"{where}, outside the model's folder: put the file beside the model and name it relatively")


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
    check_location(location, where)
    path = model.parent / location
    real = Path(os.path.realpath(path))
    allowed = {Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent}
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise GraphError(f"{where}, a link out of the model's folder (to {real}): put the file itself beside the model")
    if not real.is_file():
        raise GraphError(f"{where}, but there is no such file ({path}): copy it beside the model, under this name")
    return real

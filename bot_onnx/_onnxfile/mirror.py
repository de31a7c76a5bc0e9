"""A model that lies elsewhere, read as if it lay here: files of its length in a scratch folder, with holes.

What is looked at is fetched first, in blocks, and stays for as long as the block of its origin runs. So an analysis
fetches the graph and a few rows of each weight; a resize, which reads every byte for the source's hash, fetches all of
them once, while it analyses. What maps whole files by itself (onnxruntime) comes after that pass, or after
:meth:`Mirror.complete`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx._onnxfile.addresses import Address, connected, first_line, state
from bot_onnx._onnxfile.skeleton_scan import INLINE_BYTES
from bot_onnx._onnxfile.tensor_protos import all_tensors, expected, external_place
from bot_onnx._onnxfile.weight_files import Span, WeightFile, check_location
from bot_onnx.errors import GraphError

BLOCK: Final = 1 << 12  #: bytes that are fetched at least
_GAP: Final = 4  # blocks between two runs that one request brings along
_PART: Final = 1 << 23  # bytes of one request; several go out at the same time
_BATCH: Final = 8  # of them
_AHEAD: Final = 1 << 26  # bytes that a pass over a file fetches at a time
_FIRST, _MOST = 1 << 14, 1 << 21  # bytes that the walk over a message fetches: at a jump, and where it goes on


class RemoteFile(WeightFile):
    """One file elsewhere, of which this machine holds what was looked at.

    Attributes:
        fetched: bytes that came from there.
    """

    partial = True

    def __init__(self, address: Address, system: Any, place: str, mirror: Path) -> None:
        self._address, self._system, self._place = address, system, place
        try:
            self._there = state(system, place)
        except FileNotFoundError as error:
            raise GraphError(f"there is no file {str(address)!r}: check the address") from error
        except Exception as error:
            raise self._unread(error) from error
        self.fetched = 0
        if not self._there[0]:
            raise GraphError(f"{address} is empty: upload or export the model again")
        with open(mirror, "wb") as stream:
            stream.truncate(self._there[0])
        self._writing = os.open(mirror, os.O_RDWR | getattr(os, "O_BINARY", 0))
        super().__init__(mirror)
        self._held = np.zeros(-(-self.size // BLOCK), bool)
        self._fetching = threading.Lock()

    def ensure(self, *spans: Span) -> None:
        """Fetch what is not here yet."""
        if not self._missing(spans).size:
            return
        with self._fetching:
            missing = self._missing(spans)  # another thread may have brought it
            for start in range(0, missing.size, _BATCH * _PART // BLOCK):
                self._fetch(missing[start : start + _BATCH * _PART // BLOCK])

    def holds(self, at: int) -> bool:
        """Whether a byte is here."""
        return bool(self._held[at // BLOCK])

    def chunks(self, offset: int, nbytes: int, scratch: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Read, as a part of a pass over the whole file: large requests go ahead of it."""
        for place in range(offset, offset + nbytes, _AHEAD):
            if not (self.holds(place) and self.holds(min(place + _AHEAD, offset + nbytes) - 1)):
                self.ensure((place, _AHEAD))
            yield from super().chunks(place, min(_AHEAD, offset + nbytes - place), scratch)

    def scanned(self) -> Walked:  # type: ignore[override]
        """The file as a walk over its message sees it."""
        return Walked(self)

    def check_unchanged(self) -> None:
        """Compare length and content, as the file system tells of them, with those at the opening."""
        try:
            now = state(self._system, self._place)
        except Exception as error:
            raise self._unread(error) from error
        if now != self._there:
            raise GraphError(f"{self._address} was changed while it was read: leave it alone during the run")

    def close(self) -> None:
        """Close the mirror."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        super().close()

    def _missing(self, spans: tuple[Span, ...]) -> NDArray[np.int64]:
        """Numbers of the blocks that are not here, ascending."""
        found = []
        for offset, nbytes in spans:
            first, last = offset // BLOCK, min(-(-(offset + nbytes) // BLOCK), self._held.size)
            found.append(first + np.flatnonzero(~self._held[first:last]))
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _fetch(self, blocks: NDArray[np.int64]) -> None:
        cuts = np.flatnonzero(np.diff(blocks) > _GAP) + 1
        parts: list[tuple[int, int]] = []
        for run in np.split(blocks, cuts):
            start, end = int(run[0]) * BLOCK, min((int(run[-1]) + 1) * BLOCK, self.size)
            parts += [(place, min(place + _PART, end)) for place in range(start, end, _PART)]
        starts, ends = [start for start, _ in parts], [end for _, end in parts]
        try:
            answers = self._system.cat_ranges([self._place] * len(parts), starts, ends, on_error="raise")
        except Exception as error:  # file systems raise errors of many libraries
            raise self._unread(error) from error
        for (start, end), answer in zip(parts, answers, strict=True):
            if len(answer) != end - start:
                raise GraphError(
                    f"{self._address} gave {len(answer)} bytes where {end - start} were asked for: it was changed, or "
                    "cannot be read by parts; copy it here first"
                )
            try:
                _write(self._writing, answer, start)
            except OSError as error:
                raise GraphError(
                    f"no room for what is read of {self._address} in {self.path.parent} ({error.strerror}): TMPDIR "
                    "names another folder"
                ) from error
            self._held[start // BLOCK : -(-end // BLOCK)] = True
            self.fetched += end - start

    def _fill(self, offset: int, window: NDArray[np.uint8]) -> None:
        self.ensure((offset, window.size))
        super()._fill(offset, window)

    def _unread(self, error: Exception) -> GraphError:
        return GraphError(
            f"{self._address} cannot be read: {first_line(error)}; check the address and what it asks for"
        )


class Walked:
    """A file's bytes for :mod:`bot_onnx._onnxfile.skeleton_scan`: fetched where the walk comes to them."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._map = file, file.buffer
        self._ahead, self._end = _FIRST, 0

    def __len__(self) -> int:
        """Length of the file."""
        return self._file.size

    def __getitem__(self, at: int) -> int:
        """One byte."""
        if not self._file.holds(at):
            self._ahead = min(2 * self._ahead, _MOST) if at - self._end < BLOCK else _FIRST
            self._end = at + self._ahead
            self._file.ensure((at, self._ahead))
        return self._map[at]

    def view(self) -> _View:
        """Runs of bytes."""
        return _View(self._file, memoryview(self._map))


class _View:
    def __init__(self, file: RemoteFile, view: memoryview) -> None:
        self._file, self._view = file, view

    def __getitem__(self, run: slice) -> memoryview:
        start, stop, _ = run.indices(self._file.size)
        if stop > start:
            self._file.ensure((start, stop - start))
        return self._view[start:stop]

    def release(self) -> None:
        self._view.release()


class Mirror:
    """A model elsewhere and its data files.

    Args:
        address: of the model. folder: an empty one for what is fetched.

    Attributes:
        model: where the model's file seems to lie.
    """

    def __init__(self, address: Address, folder: Path) -> None:
        self._address, self._folder = address, folder
        self._system, self._place = connected(address)
        self.model = folder / (PurePosixPath(self._place).name or "model.onnx")
        self._files: dict[str, RemoteFile] = {}

    def open(self) -> RemoteFile:
        """The model's file.

        Raises:
            GraphError: there is none, or it cannot be read.
        """
        return self._opened("", self._address, self._place, self.model)

    def open_data(self, location: str, tensor: str) -> RemoteFile:
        """A data file of the model; the arguments are those of :func:`bot_onnx._onnxfile.weight_files.resolve`.

        Raises:
            GraphError: the location is no place beside the model, nothing is there, or it cannot be read.
        """
        check_location(location, f"tensor {tensor!r} of {self._address} keeps its values in {location!r}")
        place = PurePosixPath(location).as_posix()
        if place in self._files:
            return self._files[place]
        mirror = self._folder / place
        mirror.parent.mkdir(parents=True, exist_ok=True)
        return self._opened(place, self._address.parent / place, f"{_folder_of(self._place)}{place}", mirror)

    def prefetch(self, proto: onnx.ModelProto) -> None:
        """Fetch the small tensors that lie in data files, which are read one by one, in as few requests as will do."""
        spans: dict[str, list[Span]] = {}
        for name, tensor in all_tensors(proto):
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                continue
            with contextlib.suppress(GraphError):  # it is told where the tensor is read
                nbytes = expected(tensor, name)[2]
                location, offset, _ = external_place(tensor, name, nbytes)
                if nbytes <= INLINE_BYTES and location != self.model.name:
                    spans.setdefault(location, []).append((offset, nbytes))
        for location, wanted in spans.items():
            with contextlib.suppress(GraphError):
                self.open_data(location, "").ensure(*wanted)

    def _opened(self, key: str, address: Address, place: str, mirror: Path) -> RemoteFile:
        self._files[key] = RemoteFile(address, self._system, place, mirror)
        return self._files[key]

    def complete(self) -> None:
        """Fetch all that is not here yet."""
        for file in self._files.values():
            for start in range(0, file.size, _AHEAD):
                file.ensure((start, _AHEAD))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    @property
    def fetched(self) -> int:
        """Bytes that were fetched."""
        return sum(file.fetched for file in self._files.values())


def _folder_of(place: str) -> str:
    head, slash, _ = place.rpartition("/")
    return head + slash


def _write(descriptor: int, values: bytes, offset: int) -> None:
    with memoryview(values) as left:
        done = 0
        while done < len(left):
            if hasattr(os, "pwrite"):
                done += os.pwrite(descriptor, left[done:], offset + done)
            else:
                os.lseek(descriptor, offset + done, os.SEEK_SET)
                done += os.write(descriptor, left[done:])

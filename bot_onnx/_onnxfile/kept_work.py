"""What a killed write had finished, kept for the next one: only where that was asked for.

``<output>.resize`` is a folder with the files of the output on their way (named as placements call them), a journal and
a lock. The journal says in its
first line whose work it is (a key of the source, the plan and the place of every tensor), and in a line for every
finished tensor its SHA-256. A tensor counts as finished if the file holds the very bytes that were told: a kill, or a
machine that was switched off, may have come between the two, and neither needs to wait for the disk. Another key means
other work, which is removed. The output itself appears as any other does (:mod:`bot_onnx._onnxfile.atomic_output`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from bot_onnx._onnxfile.byte_layout import MODEL, Layout
from bot_onnx._onnxfile.data_files import key_of
from bot_onnx._onnxfile.locks import try_lock
from bot_onnx._onnxfile.parents import make_parents, remove_empty
from bot_onnx._onnxfile.weight_files import WeightFile
from bot_onnx.errors import GraphError, OutputError

_LOCK, _JOURNAL = "lock", "journal"
_MARK: Final = b"bot_onnx resize\n"
_CHUNK: Final = 1 << 20


def kept_folder(output: Path) -> Path:
    """Where the work on an output is kept."""
    return output.with_name(f"{output.name}.resize")


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a run that keeps its work found: tensors that were finished, of how many; ``anew``: only other work."""

    finished: int
    tensors: int
    anew: bool


class KeptWork:
    """The work on one output, open for as long as the block runs, and kept after it unless it was dropped.

    Args:
        output: the file to be. key: of all that decides about its bytes. plan: where each of them goes.

    Attributes:
        path: the folder.
        plan: where the bytes of every tensor go.
        finished: SHA-256 of the tensors that are finished, by name.
        resumed: what was found when the block began.
    """

    def __init__(self, output: Path, key: str, plan: Layout) -> None:
        self.path = kept_folder(output)
        self.finished: dict[str, bytes] = {}
        self.resumed = Resumed(0, len(plan.slots), anew=False)
        self._output, self._key, self.plan = output, key, plan
        self._lock: int | None = None
        self._journal: int | None = None
        self._dropped = False
        self._made: list[Path] = []

    def __enter__(self) -> KeptWork:
        """Take the folder, or make it, and see what is finished.

        Raises:
            OutputError: another run is at it, it is none of this tool's, or the system refuses.
        """
        try:
            self._made = make_parents(self.path)
            self._take()
            self._name_back()
            if not self._read():
                self._begin()
            self._journal = os.open(self.path / _JOURNAL, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            self._close()
            raise OutputError(
                f"cannot keep work in {self.path}: {error.strerror or error}; leave --resume and --jobs out"
            ) from error
        except BaseException:
            self._close()
            raise
        self.resumed = replace(self.resumed, finished=len(self.finished))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder; remove it where it was dropped."""
        if self._dropped:
            self._remove()
        self._close()
        if self._dropped:
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink(missing_ok=True)
                self.path.rmdir()
            remove_empty(self._made)

    def drop(self) -> None:
        """Keep nothing: the output is there, or was refused."""
        self._dropped = True

    def note(self, name: str, digest: bytes) -> None:
        """Say that a tensor's bytes are written.

        Args:
            name: of the tensor. digest: SHA-256 of its bytes.
        """
        assert self._journal is not None
        self.finished[name] = digest
        os.write(self._journal, (json.dumps([name, digest.hex()]) + "\n").encode())

    def check(self, name: str, digest: bytes) -> None:
        """Read back what another process says to have written.

        Args:
            name: of the tensor. digest: SHA-256 of its bytes.

        Raises:
            OutputError: they are not there.
        """
        files: dict[str, WeightFile] = {}
        try:
            if not self._holds(name, digest, files):
                raise OutputError(
                    f"a worker wrote tensor {name!r}, and {self.path} does not hold it here: every worker needs that "
                    "folder under this path, on a file system that shows what others write"
                )
        finally:
            for file in files.values():
                file.close()

    def _take(self) -> None:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise self._foreign()
        self.path.mkdir(mode=0o700, exist_ok=True)
        lock = self.path / _LOCK
        others = hasattr(os, "getuid") and self.path.stat().st_uid != os.getuid()
        if others or (not lock.exists() and any(self.path.iterdir())):
            raise self._foreign()
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        if try_lock(self._lock) is False:
            raise OutputError(f"{self._output} is being written by another run: wait for it, or choose another name")
        if os.read(self._lock, len(_MARK)) not in (_MARK, b""):
            raise self._foreign()
        os.pwrite(self._lock, _MARK, 0) if hasattr(os, "pwrite") else os.write(self._lock, _MARK)

    def _foreign(self) -> OutputError:
        return OutputError(
            f"{self.path} holds no work of this tool and user: move it away, or leave --resume and --jobs out"
        )

    def _name_back(self) -> None:
        """Files that had the output's names already, for its verification."""
        for entry in list(self.path.iterdir()):
            if entry.name == self._output.name:
                os.replace(entry, self.path / MODEL)
            elif (key := key_of(entry.name)) is not None:
                os.replace(entry, self.path / key)

    def _read(self) -> bool:
        """Find out which tensors are finished; False where the folder holds no work, or other work."""
        try:
            lines = (self.path / _JOURNAL).read_bytes().splitlines()
        except FileNotFoundError:
            return False
        if not lines or lines[0].decode("utf-8", "replace") != self._key:
            self.resumed = replace(self.resumed, anew=bool(lines))
            return False
        files: dict[str, WeightFile] = {}
        try:
            for line in lines[1:]:
                for name, digest in _told(line):
                    if self._holds(name, digest, files):
                        self.finished[name] = digest
        finally:
            for file in files.values():
                file.close()
        return True

    def _holds(self, name: str, digest: bytes, files: dict[str, WeightFile]) -> bool:
        place = self.plan.placements.get(name)
        if place is None:
            return False
        found = hashlib.sha256()
        try:
            file = files.get(place.file) or files.setdefault(place.file, WeightFile(self.path / place.file))
            for chunk in file.chunks(place.offset, place.nbytes, np.empty(_CHUNK, np.uint8)):
                found.update(chunk.data)
        except GraphError:  # missing, or too short
            return False
        return found.digest() == digest

    def _begin(self) -> None:
        self._remove()
        with open(self.path / _JOURNAL, "w", encoding="utf-8", newline="") as stream:
            stream.write(f"{self._key}\n")

    def _remove(self) -> None:
        """All but the lock: without one nobody could tell whose the folder is."""
        for entry in self.path.iterdir():
            if entry.name != _LOCK:
                entry.unlink()

    def _close(self) -> None:
        for descriptor in (self._journal, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._journal = self._lock = None


def _told(line: bytes) -> Iterator[tuple[str, bytes]]:
    """A line of the journal; none where a kill has cut it off."""
    with contextlib.suppress(ValueError, TypeError):
        name, digest = json.loads(line)
        yield name, bytes.fromhex(digest)

"""Answers of a teacher that outlive a run: a file a sample, in a folder a teacher, below a folder of bounded size.

An entry appears whole or not at all (it is renamed into place), says what its bytes hash to, and is computed anew where
that does not hold. Several runs may share the folder. What no run has opened for longest goes first
where room is needed; a run's own entries stay, and what does not fit beside them is not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bot_onnx._recover.types import Array

PLACE = "BOT_ONNX_TEACHER_CACHE"  #: environment variable: another folder, or nothing for none
_MAGIC = b"bot-onnx answers 1\n"
_HASH = 32  # bytes
_STALE = 3600.0  # seconds after which an unfinished file belongs to nobody
_PART = ".part"


def default_folder() -> Path | None:
    """Where answers are kept where nothing else is said; None: nowhere."""
    told = os.environ.get(PLACE)
    if told is not None:
        return Path(told) if told else None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bot-onnx" / "teachers"


class AnswerStore:
    """The answers of one teacher.

    Args:
        folder: of the cache.
        teacher: what tells this teacher's answers from any other's.
        most: bytes that the whole folder may take.
        writers: processes that write to it for one run, each its part of the room.
    """

    def __init__(self, folder: Path, teacher: str, most: int, writers: int = 1) -> None:
        self._own = folder / hashlib.sha256(teacher.encode()).hexdigest()
        self._most, self._writers = most, writers
        self._room: int | None = None
        self._folder = folder
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Array] | None:
        """The answer to a sample, or None where there is none, or none that is sound."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        return _unpacked(content)

    def put(self, key: str, answer: Mapping[str, Array]) -> bool:
        """Keep an answer, if there is room for it and the system allows it; whether it is kept."""
        content = _packed(answer)
        path = self._path(key)
        try:
            with self._lock:
                if self._room is None:
                    self._room = self._open()
                if len(content) > self._room:
                    return False
                self._room -= len(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{_PART}")
            try:
                part.write_bytes(content)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
        except OSError:  # a full or read-only disk costs time, and nothing else
            self._room = 0
            return False
        return True

    def _path(self, key: str) -> Path:
        return self._own / key[:2] / key[2:]

    def _open(self) -> int:
        """Make the folder and room in it; bytes that may be added."""
        self._own.mkdir(parents=True, exist_ok=True)
        os.utime(self._own)
        used = {folder: _size(folder) for folder in self._folder.iterdir() if folder.is_dir() and _is_name(folder.name)}
        for folder in sorted(used, key=lambda entry: entry.stat().st_mtime):
            if folder != self._own and sum(used.values()) > self._most // 2:
                shutil.rmtree(folder, ignore_errors=True)
                used.pop(folder)
        return max(0, self._most - sum(used.values())) // self._writers


def _is_name(name: str) -> bool:
    return len(name) == 64 and not name.strip("0123456789abcdef")


def _size(folder: Path) -> int:
    """Bytes of the entries of a teacher; what a killed run left unfinished is removed."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above) / name
            with contextlib.suppress(OSError):
                found = path.stat()
                if name.endswith(_PART) and time.time() - found.st_mtime > _STALE:
                    path.unlink()
                else:
                    total += found.st_size
    return total


def _packed(answer: Mapping[str, Array]) -> bytes:
    head = json.dumps([[name, array.dtype.str, list(array.shape)] for name, array in answer.items()]).encode()
    body = b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in answer.values())])
    return b"".join([_MAGIC, hashlib.sha256(body).digest(), body])


def _unpacked(content: bytes) -> dict[str, Array] | None:
    start = len(_MAGIC) + _HASH
    body = memoryview(content)[start:]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
        return None
    place = 8 + int.from_bytes(body[:8], "little")
    answer: dict[str, Array] = {}
    for name, kind, shape in json.loads(bytes(body[8:place])):
        values = np.frombuffer(body, kind, int(np.prod(shape)), place).reshape(shape)
        answer[name] = values
        place += values.nbytes
    return answer

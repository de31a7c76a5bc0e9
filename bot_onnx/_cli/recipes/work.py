"""The folder between the steps of a recipe: what they made, and the note of what that was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bot_onnx._onnxfile.atomic_output import worded
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.locks import try_lock
from bot_onnx._onnxfile.writer import write_text
from bot_onnx.errors import OutputError

_NOTE: Final = "recipe.json"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is done.

    Attributes:
        key: digest of what it was made from. outputs: SHA-256 of what it made, by path.
        result: what its command printed, as JSON. seconds: that it took.
    """

    key: str
    outputs: Mapping[str, str]
    result: Mapping[str, Any]
    seconds: float

    def stands(self) -> bool:
        """Whether all that it made is there as it was."""
        return all(Path(path).exists() and digest(Path(path)) == made for path, made in self.outputs.items())


@dataclass(slots=True)
class Work:
    """The folder, and its note.

    Attributes:
        folder: where it is. done: steps by name. written: SHA-256 of every output outside of it, as the
            recipe wrote it last, by path.
    """

    folder: Path
    done: dict[str, Done] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    def note(self) -> None:
        """Write down what is done."""
        told = {
            "done": {
                name: {"key": one.key, "outputs": dict(one.outputs), "result": one.result, "seconds": one.seconds}
                for name, one in self.done.items()
            },
            "written": self.written,
        }
        write_text(self.folder / _NOTE, json.dumps(told, indent=2) + "\n", force=True)


def read_work(folder: Path) -> Work:
    """What is known of a folder; nothing where it is new.

    Raises:
        OutputError: it holds other things.
    """
    note = folder / _NOTE
    if not note.exists():
        there = [] if not folder.exists() else None if not folder.is_dir() else sorted(os.listdir(folder))
        if there is None or set(there) - {_LOCK}:
            raise OutputError(f"{folder} is there, and no work of a recipe: name another as 'work'")
        return Work(folder)
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        done = {
            name: Done(one["key"], one["outputs"], one["result"], float(one["seconds"]))
            for name, one in told["done"].items()
        }
        return Work(folder, done, dict(told["written"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(f"{note} is damaged: remove {folder}, and every step is made again") from error


@contextmanager
def alone_at(folder: Path) -> Iterator[None]:
    """Make the folder, and let no other run work in it for the block.

    Raises:
        OutputError: another run is at work there, or the system refuses.
    """
    with worded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if try_lock(descriptor) is False:
            raise OutputError(f"{folder}: another run of a recipe is at work there; wait for it")
        yield
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """SHA-256 of a file, with the data files that a model names; of a folder that of its files and their names."""
    made = hashlib.sha256()
    if path.is_dir():
        files = [(file.relative_to(path).as_posix(), file) for file in sorted(path.rglob("*")) if file.is_file()]
    else:
        files = [("", path), *((file.name, file) for file in _data(path))]
    for name, file in files:
        with open(file, "rb") as stream:
            made.update(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return made.hexdigest()


def _data(model: Path) -> list[Path]:
    return [file for file in named_files(model) if file.is_file()] if model.suffix == ".onnx" else []

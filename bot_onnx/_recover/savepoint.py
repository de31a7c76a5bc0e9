"""The file that a killed training goes on from: all that the next step depends on, written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot_onnx._onnxfile.atomic_output import StagedFile, Staging
from bot_onnx._recover.extras import torch
from bot_onnx.errors import RecoverError

SUFFIX = ".recover"
#: Of the file and of the course of a training: raised whenever a version trains to other weights.
_FORMAT = 3
_WAY_OUT = "go on with the same command as before, or start anew with --restart"

#: What the fields of a fingerprint are called in messages.
_WORDS = {
    "format": "another version of bot-onnx",
    "student": "another model to train",
    "teacher": "another teacher",
    "data": "other data",
    "pixels": "another --mean or --std",
    "torch": "another version of PyTorch",
}


class _Stream(io.RawIOBase):
    """What PyTorch writes, into a file that has no name yet; None: only counted."""

    def __init__(self, file: StagedFile | None) -> None:
        self._file = file
        self.written = 0

    def write(self, values: Any) -> int:
        """Append bytes."""
        with memoryview(values) as content:
            if self._file is not None:
                self._file.write_at(self.written, content)
            self.written += content.nbytes
            return content.nbytes


class Savepoint:
    """Where a training is kept between runs.

    Args:
        path: of the file.
        fingerprint: what the training depends on, by field; a file with another one is refused.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = path
        self._fingerprint = {"format": _FORMAT, **json.loads(json.dumps(fingerprint))}

    def load(self) -> dict[str, Any] | None:
        """What was saved last, or None where there is no file.

        Raises:
            RecoverError: the file is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch().load(self.path, weights_only=True, map_location="cpu")
            theirs = dict(json.loads(state["fingerprint"]))
        except Exception as error:  # unpickling raises whatever it meets
            raise self.unreadable() from error
        differing = [key for key in {**self._fingerprint, **theirs} if self._fingerprint.get(key) != theirs.get(key)]
        if differing:
            told = [_WORDS.get(key, f"{key} {theirs.get(key)}, not {self._fingerprint.get(key)}") for key in differing]
            raise RecoverError(f"{self.path} is the checkpoint of another training ({', '.join(told)}): {_WAY_OUT}")
        return state

    def unreadable(self) -> RecoverError:
        """The error of a file that is damaged, or in which something is missing."""
        return RecoverError(f"{self.path} is no checkpoint of a training that can be read; {_WAY_OUT}")

    def save(self, state: Mapping[str, Any]) -> None:
        """Write what the next step depends on.

        Raises:
            OutputError: the file cannot be written; the one before stays.
        """
        whole = {**state, "fingerprint": json.dumps(self._fingerprint)}
        counted = _Stream(None)  # weights and moments are three times the student: no second copy of them
        torch().save(whole, counted)
        with Staging(self.path.absolute()) as staging:
            staging.reserve(counted.written)
            torch().save(whole, _Stream(staging.model))
            staging.model.sync()
            staging.publish(force=True)

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)

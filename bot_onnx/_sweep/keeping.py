"""Models of a sweep that stay: under names that say what they are made of, and over no file of anyone else."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bot_onnx._onnxfile.copying import copy_model
from bot_onnx._onnxfile.read_only import refuse_source
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._sweep.types import Combination, Trial
from bot_onnx.errors import BotError, OutputError


class Notes(Protocol):
    """Where it is noted what was kept: the study."""

    def kept(self, name: str) -> list[str]:
        """SHA-256 of all models that were kept under a name."""
        ...

    def note_kept(self, name: str, sha256: str) -> None:
        """Note another one, before it is there."""
        ...


@dataclass(slots=True)
class Keeping:
    """The folder of the models that stay.

    Attributes:
        folder: where it is; it may hold other things.
        made_of: what decides over the bytes of all models, besides their combinations. specs: by label.
        sources: files that no model may replace. force: replace files that are not the study's.
        notes: of what the study has kept; None: there is no study yet.
    """

    folder: Path
    made_of: Mapping[str, Any]
    specs: Mapping[str, Any]
    sources: Sequence[Path]
    force: bool
    notes: Notes | None = None
    _found: dict[str, Path] = field(default_factory=dict)

    def path(self, combination: Combination) -> Path:
        """Where the model of a combination stays."""
        plain = re.sub(r"[^\w.=-]+", "-", f"{combination.spec} {combination.way}", flags=re.ASCII)[:100]
        told = json.dumps([self.made_of, self.specs[combination.spec], combination.key], sort_keys=True)
        return self.folder / f"{plain}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.onnx"

    def check(self, combinations: Iterable[Combination]) -> None:
        """Refuse, before any work, names under which there is something else.

        Raises:
            OutputError: a source lies there; or, without ``force``, what the study has not kept or somebody changed.
        """
        for path in map(self.path, combinations if self.folder.exists() else ()):
            refuse_source(path, self.sources)
            if not self.force and os.path.lexists(path) and not self._is_ours(path):
                raise OutputError(
                    f"{path} is there, and not as this study has kept it: choose another --keep, or replace it with "
                    "--force (force=True)"
                )

    def find(self, combination: Combination) -> Path | None:
        """The model of a combination, where it is there as it was kept."""
        if combination.key not in self._found and self._is_ours(path := self.path(combination)):
            self._found[combination.key] = path
        return self._found.get(combination.key)

    def keep(self, model: Path, combination: Combination, sha256: str) -> None:
        """Keep a finished model.

        Raises:
            OutputError: there is something else under its name, or the system refuses.
        """
        assert self.notes is not None
        path = self.path(combination)
        ours = self._is_ours(path)
        self.notes.note_kept(path.name, sha256)  # first: what is there after a kill is known
        copy_model(model, path, force=self.force or ours, sources=self.sources)
        self._found[combination.key] = path

    def lost(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those whose models are not there, or not any more."""
        return [trial for trial in trials if self.find(trial.combination) is None]

    def _is_ours(self, path: Path) -> bool:
        if self.notes is None or not path.is_file():
            return False
        try:
            return sha256_of(path) in self.notes.kept(path.name)
        except BotError:  # it is no model
            return False


def sha256_of(model: Path) -> str:
    """SHA-256 of a model's files."""
    with open_model(model) as opened:
        return opened.sha256()

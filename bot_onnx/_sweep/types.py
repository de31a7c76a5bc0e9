"""What a sweep is asked for and what it found, as plain data that goes from process to process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bot_onnx import _html
from bot_onnx._recover.data import DataOptions
from bot_onnx._recover.types import Settings
from bot_onnx._request import ResizeRequest
from bot_onnx._target import TargetSpec

Sampler = Literal["grid", "tpe", "random"]
SAMPLERS: tuple[Sampler, ...] = ("grid", "tpe", "random")
Status = Literal["scored", "refused", "failed"]
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Combination:
    """One point of the space.

    Attributes:
        spec: label of the spec. method: name of the method. options: those of its options that are swept.
    """

    spec: str
    method: str
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def way(self) -> str:
        """The method and its options in a line."""
        return " ".join([self.method, *(f"{name}={_shown(value)}" for name, value in self.options.items())])

    @property
    def key(self) -> str:
        """The same text for the same combination."""
        return json.dumps([self.spec, self.method, dict(sorted(self.options.items()))])


def _shown(value: Value) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Made:
    """What a resize has made, as far as the table says it; ``cosines`` by output, None where it has none."""

    size_bytes: int
    parameters: int
    cosines: Mapping[str, float | None]


#: Resizes a source by a request to a path: the engine, which stands above this folder.
Resize = Callable[[str, ResizeRequest, Path], Made]


@dataclass(frozen=True, slots=True)
class Scoring:
    """How models are scored.

    Attributes:
        name: as it was given. minimize: lower scores are better.
        file, function: of a score of the user's, None for a built-in one. digest: SHA-256 of the file.
        inputs: ``.npz`` file that a built-in score runs on, or None.
    """

    name: str
    minimize: bool = False
    file: str | None = None
    function: str | None = None
    digest: str | None = None
    inputs: str | None = None


@dataclass(frozen=True, slots=True)
class Teaching:
    """The training that is part of every trial; see :func:`bot_onnx.recover`."""

    data: str
    settings: Settings
    options: DataOptions


@dataclass(frozen=True, slots=True)
class Task:
    """All that a process needs to know to make any of the trials.

    Attributes:
        source: path of the model. sha256: of its files.
        base: the request without its spec, method and options.
        specs: by label. scoring, teaching: what follows the resize; None: no training.
        folder: where trials write, each in a folder named by its number. name: of the model file there.
        resize: the engine. version: of bot-onnx, which all processes must have.
    """

    source: str
    sha256: str
    base: ResizeRequest
    specs: Mapping[str, TargetSpec]
    scoring: Scoring
    teaching: Teaching | None
    folder: str
    name: str
    resize: Resize
    version: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended.

    Attributes:
        status: ``scored``; ``refused`` by the planner or the method; ``failed``: a check or the score did.
        score: where it was scored. reason: in a line, where it was not.
        size_bytes, parameters: of the model, where one was written. sha256: of its files.
        seconds: that it took.
    """

    status: Status
    score: float | None = None
    reason: str | None = None
    size_bytes: int | None = None
    parameters: int | None = None
    sha256: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A combination and its outcome; ``number`` is that of the study, ``kept`` where its model stays."""

    number: int
    combination: Combination
    outcome: Outcome
    kept: Path | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Sweep:
    """A finished sweep.

    Attributes:
        source: path of the model. study: the SQLite file with all trials.
        score: what was scored. minimize: lower is better.
        trials: best first; those without a score last.
        resumed: number of trials that earlier runs had finished.
        output: the best model, where it was asked for.
        seconds: that this run took.
        notes: what else is to be known, in sentences.
    """

    source: str
    study: Path
    score: str
    minimize: bool
    trials: tuple[Trial, ...]
    resumed: int
    output: Path | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The best of those that were scored."""
        return next((trial for trial in self.trials if trial.outcome.status == "scored"), None)

    def __repr__(self) -> str:
        """How many were scored, and the best of them, in a line."""
        scored = sum(trial.outcome.status == "scored" for trial in self.trials)
        best = self.best
        told = (
            "" if best is None else f"; best {best.outcome.score:.6g}: {best.combination.spec}, {best.combination.way}"
        )
        return f"<Sweep of {self.source}: {scored} of {len(self.trials)} combinations scored{told}>"

    def _repr_html_(self) -> str:
        facts = {"model": self.source, "study": self.study, "output": self.output, "seconds": f"{self.seconds:.1f}",
                 "score": f"{self.score}, {'lower' if self.minimize else 'higher'} is better"}  # fmt: skip
        rows = (
            (made.spec, made.way, end.status, end.score, end.size_bytes, end.parameters, end.reason)
            for made, end in ((trial.combination, trial.outcome) for trial in self.trials)
        )
        columns = ("spec", "method and options", "status", "score", "bytes", "parameters", "reason")
        return _html.block(
            _html.facts("Sweep", facts),
            _html.table("Trials, the best first", columns, rows),
            *(_html.facts("", {"note": note}) for note in self.notes),
        )

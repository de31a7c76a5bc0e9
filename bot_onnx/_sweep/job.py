"""A sweep from a model and a space to a ranked list: the part of the Python API that is about many resizes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from bot_onnx import __version__
from bot_onnx._onnxfile.copying import copy_model
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.read_only import is_same
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._request import ResizeRequest
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._runs.sample_arrays import digest
from bot_onnx._sweep.files import tidy, work_folder
from bot_onnx._sweep.keeping import Keeping, sha256_of
from bot_onnx._sweep.space import Space
from bot_onnx._sweep.study import Study
from bot_onnx._sweep.trial import remove_trial, run_trial
from bot_onnx._sweep.types import Combination, Outcome, Resize, Scoring, Sweep, Task, Teaching, Trial, Value
from bot_onnx._sweep.workers import Workers, workers
from bot_onnx._target import TargetSpec
from bot_onnx.errors import OutputError, RecoverError, SpecError

#: Called with (what, trials done, trials in all).
Progress = Callable[[str, int, int], None]
_MODEL: Final = "model.onnx"  # name of the models of trials where none is asked for
_NAMED: Final = frozenset({"spec", "method", "options", "external"})  # of a request: swept, or nothing to the result
#: What decides over results, and not over the bytes of a model beside its combination.
_OF_ALL: Final = frozenset({"--spec", "--method", "method's option", "--sampler", "--score", "--minimize"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a sweep is asked for.

    Attributes:
        source: path of the model. specs: by label. methods, options: see :class:`Space`.
        base: the request without them. scoring, teaching: what follows each resize.
        study: the SQLite file. output: where the best model goes; None: nowhere. keep: folder for all models, or None.
        force: replace an output that exists. read: files of specs, which are not written over.
        jobs, scheduler: see :func:`bot_onnx._sweep.workers.workers`.
        sampler: how combinations are drawn. trials: how many, None: all of the grid.
    """

    source: Path
    specs: Mapping[str, TargetSpec]
    space: Space
    base: ResizeRequest
    scoring: Scoring
    study: Path
    teaching: Teaching | None = None
    output: Path | None = None
    keep: Path | None = None
    force: bool = False
    jobs: int = 1
    scheduler: str | None = None
    trials: int | None = None
    read: tuple[Path, ...] = ()

    @property
    def count(self) -> int:
        """How many trials there are to be."""
        if self.space.sampler != "grid":
            return self.trials or 0
        return min(self.trials or len(self.space), len(self.space))


@surviving()
def sweep(wanted: Wanted, resize: Resize, progress: Progress | None = None) -> Sweep:
    """Make all trials of a sweep that are not made yet; see :func:`bot_onnx.sweep`.

    Args:
        wanted: what is asked for. resize: the engine, a function of a module, for other processes find it by its name.
        progress: called after each trial.

    Raises:
        BotError: something was refused before or between trials; the study keeps what is finished.
    """
    started = time.perf_counter()
    _check(wanted)
    sweep_beside(*filter(None, (wanted.study, wanted.output)))
    with open_model(wanted.source) as source:
        source.check_resizable()
        _check_outputs(wanted, source.files)
        sha256, files = source.sha256(), source.files
    asked = _asked(wanted, sha256)
    keeping = _keeping(wanted, asked, files)
    with work_folder(wanted.study.absolute()) as folder:
        task = _task(wanted, sha256, resize, folder)
        with _opened(wanted, asked, folder) as study:
            if keeping is not None:
                keeping.notes = study
                keeping.check(wanted.space.combinations())
            run = _Run(wanted, task, study, progress or _silent, keeping)
            resumed = len(run.trials)
            run.work()
            output = run.publish()
            trials = run.ranked()
            notes = [*run.notes, *without_effect(trials, wanted.space.options)]
        return Sweep(
            source=os.fspath(wanted.source),
            study=wanted.study,
            score=wanted.scoring.name,
            minimize=wanted.scoring.minimize,
            trials=trials,
            resumed=resumed,
            output=output,
            seconds=time.perf_counter() - started,
            notes=tuple(notes),
        )


def _silent(what: str, done: int, total: int) -> None:
    """No progress is shown."""


def _check(wanted: Wanted) -> None:
    wanted.space.check()
    teaching = wanted.teaching
    if teaching is not None and not Path(teaching.data).exists():
        raise RecoverError(f"there is no data at {teaching.data}: give a folder of images, a text or an .npz file")
    if wanted.space.sampler != "grid" and wanted.trials is None:
        raise SpecError(f"sampler '{wanted.space.sampler}' draws for as long as it may: give a number of trials")


def _check_outputs(wanted: Wanted, files: Sequence[Path]) -> None:
    read = [*files, *wanted.read, *wanted.base.files(), *_read(wanted)]
    if wanted.output is not None:
        if is_same(wanted.output, wanted.study):
            raise OutputError(f"{wanted.study}: study and output are one file; give each a name of its own")
        check_output(wanted.output, force=wanted.force, sources=[*read, wanted.study])
    check_output(wanted.study, force=True, sources=read)


def _read(wanted: Wanted) -> list[Path]:
    """Files of the score and of the training."""
    taught = () if wanted.teaching is None else (wanted.teaching.data, *_readers(wanted.teaching))
    return [path for name in (wanted.scoring.file, *taught) if name is not None and (path := Path(name)).is_file()]


def _readers(teaching: Teaching) -> tuple[Path | None, Path | None]:
    """Files that say how data are read."""
    return teaching.options.tokenizer, teaching.options.preprocessor


def _keeping(wanted: Wanted, asked: Mapping[str, Any], files: Sequence[Path]) -> Keeping | None:
    """The folder of the models that stay; None: none does.

    Raises:
        OutputError: there is no study yet, and something under their names.
    """
    if wanted.keep is None:
        return None
    made_of = {name: value for name, value in asked.items() if name not in _OF_ALL}
    made_of["external"] = repr(wanted.base.external)
    keeping = Keeping(wanted.keep, made_of, asked["--spec"], files, wanted.force)
    if not wanted.study.exists():
        keeping.check(wanted.space.combinations())
    return keeping


def _task(wanted: Wanted, sha256: str, resize: Resize, folder: Path) -> Task:
    name = _MODEL if wanted.output is None else wanted.output.name
    source = str(wanted.source.absolute())
    return Task(
        source, sha256, wanted.base, wanted.specs, wanted.scoring, wanted.teaching, str(folder), name, resize,
        __version__,
    )  # fmt: skip


@contextmanager
def _opened(wanted: Wanted, asked: Mapping[str, Any], folder: Path) -> Iterator[Study]:
    study = Study(
        wanted.study, asked, wanted.space,
        minimize=wanted.scoring.minimize, seed=wanted.base.seed, scratch=folder,
    )  # fmt: skip
    try:
        yield study
    finally:
        study.close()


def _asked(wanted: Wanted, sha256: str) -> dict[str, Any]:
    """What decides over the results of trials, by the word for it in a refusal."""
    base, space, given = wanted.base, wanted.space, as_given(wanted.base.inputs, wanted.base.input_shapes)
    told = {
        f"--{entry.name.replace('_', '-')}": getattr(base, entry.name)
        for entry in fields(base)
        if entry.name not in {*_NAMED, "inputs", "input_shapes", "calibration"}
    }
    teaching = wanted.teaching
    return {
        "source": sha256,
        "--spec": {label: spec.model_dump(mode="json") for label, spec in wanted.specs.items()},
        "--method": list(space.methods),
        "method's option": {name: list(values) for name, values in space.options.items()},
        "--sampler": space.sampler,
        "--score": [wanted.scoring.name.rpartition(":")[2], wanted.scoring.digest, _digest(wanted.scoring.inputs)],
        "--minimize": wanted.scoring.minimize,
        "--calibration": _digest(base.calibration),
        "--inputs": digest(given.arrays) if given is not None and given.arrays else None,
        "--input-shape": {} if given is None else {name: list(shape) for name, shape in given.shapes.items()},
        **told,
        "--recover": None if teaching is None else asdict(teaching.settings),
        "--data": None
        if teaching is None
        else [*map(_digest, (teaching.data, *_readers(teaching))), repr(teaching.options)],
        "version of bot-onnx": __version__,
    }


def _digest(given: Any) -> str | None:
    """SHA-256 of a file; of a folder that of its files and their names."""
    if given is None:
        return None
    made, root = hashlib.sha256(), Path(given)
    for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if path.is_file():
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            made.update(f"{path.relative_to(root)} {content}\n".encode())
    return made.hexdigest()


@dataclass(slots=True)
class _Run:
    """The trials of one sweep, one process' part of them."""

    wanted: Wanted
    task: Task
    study: Study
    progress: Progress
    keeping: Keeping | None = None
    trials: list[Trial] = field(init=False)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trials = self.study.finished()
        best = self._best()
        tidy(Path(self.task.folder), () if best is None else (best.number,))

    def work(self) -> None:
        """Make what is missing: models that are to stay and are not there, and trials."""
        count = self.wanted.count
        lost = [] if self.keeping is None else self.keeping.lost(filter(_has, self._unique()))
        self.progress("trials", len(self.trials), count)
        if len(self.trials) >= count and not lost:
            return
        with workers(self.task, jobs=self.wanted.jobs, scheduler=self.wanted.scheduler) as hands:
            self._make_again(hands, lost)
            self._make(hands, count)

    def _make(self, hands: Workers, count: int) -> None:
        running: dict[int, Combination] = {}
        waiting: dict[int, Combination] = {}  # drawn again while the same one runs
        while True:
            self._fill(hands, running, waiting, count)
            if not running:
                return
            for number, outcome in hands.finished():
                done = running.pop(number)
                self._finish(number, done, outcome)
                for same in [other for other, drawn in waiting.items() if drawn.key == done.key]:
                    self._note(same, waiting.pop(same), replace(outcome, seconds=0.0))
                self.progress("trials", len(self.trials), count)

    def _make_again(self, hands: Workers, lost: list[Trial]) -> None:
        """Make models of trials that are finished."""
        running: dict[int, Trial] = {}
        while lost or running:
            while lost and hands.room() > 0:
                trial = lost.pop(0)
                running[trial.number] = trial
                hands.begin(trial.number, trial.combination)
            for number, again in hands.finished():
                trial = running.pop(number)
                self._keep(number, trial.combination, again)
                self._say_changed(trial, again)
                if trial != self._best() or self.wanted.output is None:
                    remove_trial(Path(self.task.folder), number)

    def _fill(
        self, hands: Workers, running: dict[int, Combination], waiting: dict[int, Combination], count: int
    ) -> None:
        while len(self.trials) + len(running) + len(waiting) < count and hands.room() > 0:
            number, combination = self.study.ask()
            known = next((t for t in self.trials if t.combination.key == combination.key), None)
            if known is not None:  # drawn again: the same bytes would come out
                self._note(number, combination, replace(known.outcome, seconds=0.0))
            elif any(drawn.key == combination.key for drawn in running.values()):
                waiting[number] = combination
            else:
                running[number] = combination
                hands.begin(number, combination)

    def _finish(self, number: int, combination: Combination, outcome: Outcome) -> None:
        self._keep(number, combination, outcome)
        best = self._best()
        self._note(number, combination, outcome)
        now = self._best()
        for trial in {best.number if best else None, number} - {now.number if now and self.wanted.output else None}:
            if trial is not None:
                remove_trial(Path(self.task.folder), trial)

    def _keep(self, number: int, combination: Combination, outcome: Outcome) -> None:
        if self.keeping is not None and outcome.status == "scored":
            model = Path(self.task.folder) / str(number) / self.task.name
            self.keeping.keep(model, combination, str(outcome.sha256))

    def _say_changed(self, trial: Trial, again: Outcome) -> None:
        """Note what is to be known of a model that was made again."""
        made = f"The model of {trial.combination.spec}, {trial.combination.way}"
        if again.score is None:
            self.notes.append(f"{made} could not be made again: {again.reason}")
        elif again.score != trial.outcome.score:
            self.notes.append(
                f"{made} was made again and has now the score {again.score:.6g}, not {trial.outcome.score:.6g}: the "
                "score or the training differs from run to run."
            )

    def _note(self, number: int, combination: Combination, outcome: Outcome) -> None:
        self.study.tell(number, outcome)
        self.trials.append(Trial(number, combination, outcome))

    def _best(self) -> Trial | None:
        return next((trial for trial in _ranked(self.trials, self.wanted.scoring.minimize) if _has(trial)), None)

    def publish(self) -> Path | None:
        """Give the best model its name; one that an earlier run did not leave is made again."""
        best, output = self._best(), self.wanted.output
        if best is None or output is None:
            return None
        model = Path(self.task.folder) / str(best.number) / self.task.name
        if not (model.exists() and sha256_of(model) == best.outcome.sha256):
            again = run_trial(self.task, best.number, best.combination)
            if again.score is None:
                raise SpecError(f"the best model could not be made again: {again.reason}")
            self._say_changed(best, again)
        copy_model(model, output, force=self.wanted.force)
        return output

    def ranked(self) -> tuple[Trial, ...]:
        """Every combination once, best first, with where its model stays."""
        return tuple(replace(trial, kept=self._found(trial)) for trial in self._unique())

    def _unique(self) -> list[Trial]:
        seen: dict[str, Trial] = {}
        for trial in _ranked(self.trials, self.wanted.scoring.minimize):
            seen.setdefault(trial.combination.key, trial)
        return list(seen.values())

    def _found(self, trial: Trial) -> Path | None:
        return self.keeping.find(trial.combination) if self.keeping is not None and _has(trial) else None


def _ranked(trials: Sequence[Trial], minimize: bool) -> list[Trial]:
    """Best first; of equal scores the smaller file, then the earlier trial; then what was refused, then what failed."""

    def rank(trial: Trial) -> tuple[int, float, int, int]:
        outcome = trial.outcome
        value = outcome.score or 0.0
        order = ("scored", "refused", "failed").index(outcome.status)
        return order, value if minimize else -value, outcome.size_bytes or 0, trial.number

    return sorted(trials, key=rank)


def without_effect(trials: Sequence[Trial], options: Mapping[str, Sequence[Value]]) -> list[str]:
    """Sentences on options whose values all came to the same: what was resized did not depend on them."""
    notes = []
    for name in options:
        groups: dict[str, list[Outcome]] = {}
        for trial in trials:
            made = trial.combination
            if name in made.options and _has(trial):
                rest = replace(made, options={other: value for other, value in made.options.items() if other != name})
                groups.setdefault(rest.key, []).append(trial.outcome)
        compared = [group for group in groups.values() if len(group) > 1]
        if compared and all(len({outcome.score for outcome in group}) == 1 for group in compared):
            notes.append(
                f"Option {name} made no difference: all of its values have the same scores. Where the alignment turns "
                "the source, widths are cut, not filtered; --align permute or --align none has them filtered."
            )
    return notes


def _has(trial: Trial) -> bool:
    return trial.outcome.status == "scored"

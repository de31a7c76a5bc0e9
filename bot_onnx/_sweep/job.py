"""A sweep from a model and a space to a ranked list: the part of the Python API that is about many resizes."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from bot_onnx import __version__
from bot_onnx._onnxfile.copying import copy_model
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._request import ResizeRequest
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._runs.sample_arrays import digest
from bot_onnx._sweep.files import tidy, work_folder
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a sweep is asked for.

    Attributes:
        source: path of the model. specs: by label. methods, options: see :class:`Space`.
        base: the request without them. scoring, teaching: what follows each resize.
        study: the SQLite file. output: where the best model goes; None: nowhere. keep: folder for all models, or None.
        force: replace an output that exists.
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
        sha256 = source.sha256()
    with work_folder(wanted.study.absolute()) as folder:
        task = _task(wanted, sha256, resize, folder)
        with _opened(wanted, sha256, folder) as study:
            run = _Run(wanted, task, study, progress or _silent)
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
    read = [*files, *wanted.base.files(), *_read(wanted)]
    if wanted.output is not None:
        if os.path.realpath(wanted.output) == os.path.realpath(wanted.study):
            raise OutputError(f"{wanted.study}: study and output are one file; give each a name of its own")
        check_output(wanted.output, force=wanted.force, sources=[*read, wanted.study])
    check_output(wanted.study, force=True, sources=read)


def _read(wanted: Wanted) -> list[Path]:
    """Files of the score and of the training."""
    taught = () if wanted.teaching is None else (wanted.teaching.data, wanted.teaching.options.tokenizer)
    return [path for name in (wanted.scoring.file, *taught) if name is not None and (path := Path(name)).is_file()]


def _task(wanted: Wanted, sha256: str, resize: Resize, folder: Path) -> Task:
    name = _MODEL if wanted.output is None else wanted.output.name
    source = str(wanted.source.absolute())
    return Task(
        source, sha256, wanted.base, wanted.specs, wanted.scoring, wanted.teaching, str(folder), name, resize,
        __version__,
    )  # fmt: skip


@contextmanager
def _opened(wanted: Wanted, sha256: str, folder: Path) -> Iterator[Study]:
    study = Study(
        wanted.study, _asked(wanted, sha256), wanted.space,
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
        "--data": None if teaching is None else [_digest(teaching.data), repr(teaching.options)],
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
    trials: list[Trial] = field(init=False)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trials = self.study.finished()
        best = self._best()
        tidy(Path(self.task.folder), () if best is None else (best.number,))

    def work(self) -> None:
        """Make what is missing."""
        count = self.wanted.count
        self.progress("trials", len(self.trials), count)
        if len(self.trials) >= count:
            return
        with workers(self.task, jobs=self.wanted.jobs, scheduler=self.wanted.scheduler) as hands:
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
        model = Path(self.task.folder) / str(number) / self.task.name
        if outcome.status == "scored" and self.wanted.keep is not None:
            copy_model(model, self._kept(combination), force=True)
        best = self._best()
        self._note(number, combination, outcome)
        now = self._best()
        for trial in {best.number if best else None, number} - {now.number if now and self.wanted.output else None}:
            if trial is not None:
                remove_trial(Path(self.task.folder), trial)

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
        if not (model.exists() and _sha256(model) == best.outcome.sha256):
            again = run_trial(self.task, best.number, best.combination)
            if again.score is None:
                raise SpecError(f"the best model could not be made again: {again.reason}")
            if again.score != best.outcome.score:
                self.notes.append(
                    f"The best model was made again and has now the score {again.score:.6g}, not "
                    f"{best.outcome.score:.6g}: the score or the training differs from run to run."
                )
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
        if self.wanted.keep is None or not _has(trial):
            return None
        kept = self._kept(trial.combination)
        return kept if kept.exists() else None

    def _kept(self, combination: Combination) -> Path:
        assert self.wanted.keep is not None
        plain = re.sub(r"[^\w.=-]+", "-", f"{combination.spec} {combination.way}", flags=re.ASCII)[:100]
        digits = hashlib.sha256(combination.key.encode()).hexdigest()[:6]
        return self.wanted.keep / f"{plain}-{digits}.onnx"


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


def _sha256(model: Path) -> str:
    with open_model(model) as opened:
        return opened.sha256()

"""The study: Optuna's own SQLite file, in which every finished trial stands and every begun one is known.

A trial that a killed run had begun is marked as failed there and put back into Optuna's queue, at the same place of the
grid; what is finished is never run again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from bot_onnx._onnxfile.journal import rename_new
from bot_onnx._sweep.extras import optuna
from bot_onnx._sweep.space import Space
from bot_onnx._sweep.types import Combination, Outcome, Trial
from bot_onnx.errors import BotError

_NAME: Final = "bot-onnx sweep"
_ASKED, _OUTCOME, _COMBINATION, _RETRIES, _KEPT = "asked", "outcome", "combination", "retries", "kept"


class Study:
    """An open study.

    Args:
        path: of the SQLite file.
        asked: what decides over results, by the option's name: a study of anything else is refused.
        space: to draw from. minimize: lower scores are better. seed: of the sampler.
        scratch: folder in which a new file is made, before it gets its name.

    Raises:
        BotError: the file is no study, or one that was asked for something else.
    """

    def __init__(
        self, path: Path, asked: Mapping[str, Any], space: Space, *, minimize: bool, seed: int, scratch: Path
    ) -> None:
        self._space, self._path = space, path
        self._told = json.loads(json.dumps(asked))
        if not path.exists():
            self._create(scratch / "new.db", minimize)
            rename_new(scratch / "new.db", path)
        self._storage, self._study = self._open()
        self._check()
        begun = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = _sampler(space, seed, begun)
        self._repair()

    def ask(self) -> tuple[int, Combination]:
        """Begin a trial: its number, and what to try."""
        trial = self._study.ask()
        combination = self._space.draw(trial)
        trial.set_user_attr(_COMBINATION, asdict(combination))
        return trial.number, combination

    def tell(self, number: int, outcome: Outcome) -> None:
        """Finish a trial. The outcome stands there first: a trial is never finished without one."""
        trial_id = self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        self._study._storage.set_trial_user_attr(trial_id, _OUTCOME, asdict(outcome))
        self._close(number, outcome)

    def finished(self) -> list[Trial]:
        """Trials with an outcome, in the order in which they were begun."""
        return [
            Trial(trial.number, Combination(**trial.user_attrs[_COMBINATION]), Outcome(**trial.user_attrs[_OUTCOME]))
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.is_finished() and _OUTCOME in trial.user_attrs
        ]

    def kept(self, name: str) -> list[str]:
        """SHA-256 of all models that were kept under a name."""
        return list(self._study.user_attrs.get(f"{_KEPT} {name}", ()))

    def note_kept(self, name: str, sha256: str) -> None:
        """Note that a model is kept."""
        if sha256 not in (known := self.kept(name)):
            self._study.set_user_attr(f"{_KEPT} {name}", [*known, sha256])

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _close(self, number: int, outcome: Outcome) -> None:
        if outcome.status == "scored":
            self._study.tell(number, outcome.score)
        else:
            self._study.tell(number, state=optuna().trial.TrialState.FAIL)

    def _create(self, path: Path, minimize: bool) -> None:
        path.unlink(missing_ok=True)
        storage = _storage(path)
        direction = "minimize" if minimize else "maximize"
        study = optuna().create_study(storage=storage, study_name=_NAME, direction=direction)
        study.set_user_attr(_ASKED, self._told)
        storage.remove_session()
        storage.engine.dispose()

    def _open(self) -> tuple[Any, Any]:
        _check_file(self._path)
        try:
            storage = _storage(self._path)
            return storage, optuna().load_study(study_name=_NAME, storage=storage)
        except Exception as error:  # Optuna's, SQLAlchemy's and SQLite's have no common base
            raise BotError(
                f"{self._path} is no study of 'bot-onnx sweep' ({type(error).__name__}): name another --study"
            ) from error

    def _check(self) -> None:
        known = self._study.user_attrs.get(_ASKED, {})
        other = [name for name in {**known, **self._told} if known.get(name) != self._told.get(name)]
        if other:
            raise BotError(
                f"{self._path} is a study of another {', of another '.join(other)}: give the same as before to go on "
                "with it, or name another --study",
                alternatives=other,
            )

    def _repair(self) -> None:
        """Settle what a killed run had begun."""
        states = optuna().trial.TrialState
        trials = self._study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(_RETRIES) for trial in trials}
        for trial in trials:
            if trial.state != states.RUNNING:
                continue
            if _OUTCOME in trial.user_attrs:  # it was killed between the outcome and the state
                self._close(trial.number, Outcome(**trial.user_attrs[_OUTCOME]))
                continue
            if trial.number not in again and (trial.params or "grid_id" in trial.system_attrs):
                copy = optuna().trial.create_trial(
                    state=states.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={_RETRIES: trial.number},
                    system_attrs=trial.system_attrs,
                )
                self._study.add_trial(copy)
            self._study.tell(trial.number, state=states.FAIL)


def _storage(path: Path) -> Any:
    # Connections are made here: in an address a "?" in the path would begin options.
    connect = partial(sqlite3.connect, path.absolute(), timeout=60, check_same_thread=False)
    return optuna().storages.RDBStorage("sqlite:///study", engine_kwargs={"creator": connect})


def _check_file(path: Path) -> None:
    """Refuse what is no SQLite file before Optuna writes its tables into it."""
    try:
        with open(path, "rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise BotError(f"{path} is no study of 'bot-onnx sweep': name another --study")
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("select 1 from studies where study_name = ?", (_NAME,)).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise BotError(f"{path} is no study of 'bot-onnx sweep' ({error}): name another --study") from error


def _sampler(space: Space, seed: int, begun: int) -> Any:
    """A sampler for what is left; one that goes on must not draw again what it has drawn for the first trials."""
    samplers = optuna().samplers
    if space.sampler == "random":
        return samplers.RandomSampler(seed=seed + begun)
    if space.sampler == "tpe":
        return samplers.TPESampler(seed=seed + begun)

    class Grid(samplers.GridSampler):  # type: ignore[misc, name-defined]
        def after_trial(self, *told: Any) -> None:
            """Optuna's stops its own loop here, which is not the one that runs."""

    return Grid(space.grid(), seed=seed)

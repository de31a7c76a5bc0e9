"""One trial, in whatever process it runs: resize, teach, score."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._progress import told
from bot_onnx._request import ResizeRequest
from bot_onnx._sweep.scores import Unscored, compared, score
from bot_onnx._sweep.types import Combination, Made, Outcome, Task
from bot_onnx.errors import BotError, DataError, GraphError, RecoverError, ResampleError, SpecError, VerifyError

_alone: Final = threading.Lock()  # the work of one trial is spread over threads already


def run_trial(task: Task, number: int, combination: Combination) -> Outcome:
    """Make a trial; what is wrong with its combination, its model or its score is in the outcome.

    Raises:
        BotError, OSError, MemoryError: the trial could not be made here, and would have to be made again.
    """
    started = time.perf_counter()
    with _alone, told(_silent):
        _check_source(task.source, task.sha256)
        folder = Path(task.folder) / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = _attempt(task, combination, folder)
        if made.status != "scored":
            shutil.rmtree(folder, ignore_errors=True)
        return replace(made, seconds=time.perf_counter() - started)


def _attempt(task: Task, combination: Combination, folder: Path) -> Outcome:
    model = folder / task.name
    try:
        made = _resized(task, combination, folder if task.teaching is None else folder / "resized")
    except (SpecError, ResampleError) as error:
        return Outcome("refused", reason=_line(error))
    except VerifyError as error:
        return Outcome("failed", reason=_line(error))
    known = Outcome("failed", size_bytes=made.size_bytes, parameters=made.parameters)
    try:
        if task.teaching is not None:
            made = _taught(task, made, folder)
        reached = score(task.scoring, model, Path(task.source), made.cosines)
    except (Unscored, VerifyError, RecoverError, DataError) as error:
        return replace(known, reason=_line(error))
    with open_model(model) as written:
        return replace(known, status="scored", score=reached, size_bytes=made.size_bytes, sha256=written.sha256())


def _resized(task: Task, combination: Combination, folder: Path) -> Made:
    folder.mkdir(exist_ok=True)
    request: ResizeRequest = replace(
        task.base, spec=task.specs[combination.spec], method=combination.method, options=dict(combination.options)
    )
    return task.resize(task.source, request, folder / task.name)


def _taught(task: Task, made: Made, folder: Path) -> Made:
    """Train what was resized, and compare it with the source anew."""
    from bot_onnx._recover.jobs import recover

    assert task.teaching is not None
    teaching, model = task.teaching, folder / task.name
    recover(
        folder / "resized" / task.name,
        task.source,
        teaching.data,
        model,
        settings=teaching.settings,
        options=teaching.options,
        external=task.base.external,
    )
    shutil.rmtree(folder / "resized", ignore_errors=True)
    cosines = compared(model, Path(task.source), task.base.inputs, task.base.input_shapes)
    return replace(made, cosines=cosines, size_bytes=_length(model))


def _length(model: Path) -> int:
    with open_model(model) as written:
        return written.size_bytes


@cache
def _check_source(source: str, sha256: str) -> None:
    with open_model(source) as opened:
        if opened.sha256() != sha256:
            raise GraphError(f"{source} is another model here than where the sweep began")


def _line(error: BotError | Unscored) -> str:
    return " ".join(str(error).split())


def _silent(what: str, done: int, total: int) -> None:
    """The sweep tells of whole trials alone."""


def remove_trial(folder: Path, number: int) -> None:
    """Remove what a trial has written."""
    with suppress(OSError):
        shutil.rmtree(folder / str(number))

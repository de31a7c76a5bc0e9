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

from bot_onnx import __version__
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._progress import told
from bot_onnx._request import ResizeRequest
from bot_onnx._sweep.scores import ScoreChanged, Unscored, compared, score
from bot_onnx._sweep.types import Combination, Made, Outcome, Task
from bot_onnx.errors import BotError, GraphError, MissingRuntimeError, OutputError, ResampleError, SpecError

_alone: Final = threading.Lock()  # the work of one trial is spread over threads already


def run_trial(task: Task, number: int, combination: Combination) -> Outcome:
    """Make a trial; what is wrong with its combination, its model or its score is in the outcome.

    Raises:
        BotError, OSError, MemoryError: the trial could not be made here, and would have to be made again.
    """
    started = time.perf_counter()
    with _alone, told(_silent):
        _check_version(task.version)
        _check_source(task.source, task.sha256)
        folder = Path(task.folder) / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = _attempt(task, combination, folder)
        if made.status != "scored":
            shutil.rmtree(folder, ignore_errors=True)
        return replace(made, seconds=time.perf_counter() - started)


def _attempt(task: Task, combination: Combination, folder: Path) -> Outcome:
    model, known = folder / task.name, Outcome("failed")
    try:
        made = _resized(task, combination, folder if task.teaching is None else folder / "resized")
        known = replace(known, size_bytes=made.size_bytes, parameters=made.parameters)
        if task.teaching is not None:
            made = _taught(task, made, folder)
        reached = score(task.scoring, model, Path(task.source), made.cosines)
    except (OutputError, MissingRuntimeError, ScoreChanged, OSError, MemoryError):
        raise
    except (SpecError, ResampleError) as error:
        return replace(known, status="refused", reason=_line(error))
    except (BotError, Unscored) as error:
        _check_source.cache_clear()
        _check_source(task.source, task.sha256)  # another source is no matter of this combination
        return replace(known, reason=_line(error))
    except Exception as error:  # the others go on; that it is one stands in the study
        return replace(known, reason=f"a defect of bot-onnx: unexpected {type(error).__name__}: {_line(error)}")
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
    from bot_onnx._recover.ranks import check_alone

    check_alone("a sweep")
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


def _check_version(version: str) -> None:
    if version != __version__:
        raise BotError(f"a worker has bot-onnx {__version__}, and the sweep is one of {version}: install the same")


@cache
def _check_source(source: str, sha256: str) -> None:
    with open_model(source) as opened:
        if opened.sha256() != sha256:
            raise GraphError(f"{source} is another model here than where the sweep began")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _silent(what: str, done: int, total: int) -> None:
    """The sweep tells of whole trials alone."""


def remove_trial(folder: Path, number: int) -> None:
    """Remove what a trial has written."""
    with suppress(OSError):
        shutil.rmtree(folder / str(number))

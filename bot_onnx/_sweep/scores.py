"""Scores of a written model: a function of the user's, or how close its outputs are to the source's."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import numbers
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from bot_onnx._ended import Ended, told_to_end
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._runs.runtime import session
from bot_onnx._runs.sample_arrays import Samples, samples_for
from bot_onnx._sweep.types import Scoring
from bot_onnx._verify import VerifyReport, raise_unless_passed, verify_model
from bot_onnx.errors import DataError, SpecError

BUILT_IN: Final = ("cosine", "agreement")
_BATCH: Final = 64


class ScoreChanged(SpecError):
    """The file of a score is gone, or another one than when the sweep began: no matter of a combination."""


class Unscored(Exception):
    """A model has no score; the message says why."""


def read_scoring(text: str, *, minimize: bool = False, inputs: Path | None = None) -> Scoring:
    """What ``--score`` says.

    Args:
        text: ``cosine``, ``agreement``, or ``file.py:function``.
        minimize: lower is better. inputs: ``.npz`` file for the built-in ones.

    Raises:
        SpecError: it is none of these, or the file has no such function. DataError: agreement has no samples.
    """
    if text in BUILT_IN:
        if minimize:
            raise SpecError(f"score '{text}': higher is better; leave --minimize out")
        if text == "agreement" and inputs is None:
            raise DataError("score 'agreement' counts on samples: give --inputs FILE.npz, an array per input")
        return Scoring(text, inputs=None if inputs is None else str(inputs.absolute()))
    name, colon, function = text.rpartition(":")
    if not colon or not name.endswith(".py") or not function.isidentifier():
        raise SpecError(
            f"score '{text}' is neither a function as my.py:score nor one of {', '.join(BUILT_IN)}",
            alternatives=BUILT_IN,
        )
    path = Path(name).absolute()
    scoring = Scoring(text, minimize, str(path), function, _digest(path), None)
    _function(scoring.file or "", function, scoring.digest or "")
    return scoring


def score(scoring: Scoring, model: Path, source: Path, cosines: Mapping[str, float | None]) -> float:
    """Score a model.

    Args:
        scoring: how. model: the file. source: what it was made from.
        cosines: of its outputs with the source's, by output.

    Raises:
        Unscored: it has no score.
        ScoreChanged: the file of the function is gone, or another one than when the sweep began.
    """
    if scoring.file is not None:
        return _own(scoring, model)
    return mean_cosine(cosines, source) if scoring.name == "cosine" else agreement(model, source, scoring.inputs or "")


def cosines_of(report: VerifyReport) -> dict[str, float | None]:
    """Cosines by output, of a verification against the source."""
    return {found.output: found.cosine for found in report.comparisons}


def compared(model: Path, source: Path, inputs: Any, shapes: Any) -> dict[str, float | None]:
    """Verify a model against its source: cosines by output.

    Raises:
        VerifyError: a check failed.
    """
    report = verify_model(model, against=source, given=as_given(inputs, shapes))
    raise_unless_passed(report)
    return cosines_of(report)


def mean_cosine(cosines: Mapping[str, float | None], source: Path) -> float:
    """Mean over all outputs of floats: none may be left out, or two models would be measured by different things.

    Raises:
        Unscored: an output cannot be compared.
    """
    wanted = _float_outputs(str(source))
    missing = [name for name in wanted if cosines.get(name) is None]
    if missing or not wanted:
        raise Unscored(
            f"output {missing[0]!r} cannot be compared with the source's" if missing else "no floats come out"
        )
    return float(np.mean([float(cosines[name] or 0.0) for name in wanted]))


def agreement(model: Path, source: Path, inputs: str) -> float:
    """Share of rows, over all outputs of floats, whose largest element is where the source has it.

    Raises:
        Unscored: an output has another shape than the source's.
    """
    same = rows = 0.0
    runner, samples = session(str(model), optimise=True, threads=1), _samples(str(source), inputs)
    teacher = _session(str(source))
    for share, feeds in samples.weighed(_BATCH):
        for name in _float_outputs(str(source)):
            ours, theirs = runner.run([name], feeds)[0], teacher.run([name], feeds)[0]
            if ours.shape != theirs.shape:
                raise Unscored(f"output {name!r} has another shape than the source's: no row can be compared")
            if ours.ndim and ours.shape[-1] > 1:
                rows += share * (ours.size // ours.shape[-1])
                same += share * int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    if not rows:
        raise Unscored("no output has rows of several numbers")
    return same / rows


def _own(scoring: Scoring, model: Path) -> float:
    try:
        function = _function(scoring.file or "", scoring.function or "", scoring.digest or "")
    except ScoreChanged:
        raise
    except SpecError as error:  # it was there when the sweep began
        raise ScoreChanged(str(error)) from error
    try:
        with told_to_end():
            value = function(str(model))
    except SystemExit as error:
        if isinstance(error, Ended):  # the process was told to while the score was at work
            raise
        raise Unscored(f"the score ended by SystemExit: {error.code}") from error
    except Exception as error:  # anything may go wrong in somebody else's code
        raise Unscored(f"the score raised {type(error).__name__}: {' '.join(str(error).split())}") from error
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or _is_scalar(value)):
        raise Unscored(f"the score is {type(value).__name__}, no number")
    if not math.isfinite(number := float(value)):
        raise Unscored(f"the score is {number}")
    return number


def _is_scalar(value: Any) -> bool:
    """Whether it is an array or tensor of one real number."""
    return getattr(value, "shape", None) == () and hasattr(value, "__float__")


@cache
def _function(file: str, name: str, digest: str) -> Callable[[str], Any]:
    if _digest(Path(file)) != digest:
        raise ScoreChanged(f"{file} is another file than when the sweep began: begin a new study")
    function = getattr(_module(file, digest), name, None)
    if not callable(function):
        raise SpecError(f"{file} has no function '{name}'")
    return function  # type: ignore[no-any-return]


@cache
def _module(file: str, digest: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bot_onnx_score_{digest[:12]}", file)
    if spec is None or spec.loader is None:
        raise SpecError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    beside = os.path.dirname(os.path.abspath(file))
    if beside not in sys.path:  # its functions may import what lies beside it, also when they are called
        sys.path.append(beside)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SpecError(f"{file} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return module


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from error


@cache
def _float_outputs(source: str) -> tuple[str, ...]:
    with open_model(source) as opened:
        outputs = opened.model().graph.outputs
        return tuple(value.name or "" for value in outputs if value.dtype is None or value.dtype.is_floating_point())


@cache
def _session(source: str) -> Any:
    return session(source, optimise=True, threads=1)


@cache
def _samples(source: str, inputs: str) -> Samples:
    with open_model(source) as opened:
        return samples_for(opened.model(), Path(inputs))

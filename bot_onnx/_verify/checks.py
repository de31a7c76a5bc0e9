"""The checks of a model file, in the order in which the report tells them.

A check is a function in ``CHECKS``: from the :class:`Examination` of the file, which works out what it is asked for, to
the lines of the report that it adds (none, where there is nothing to check). What it returns is all that there is to
say: the tables, the JSON, the exit code and what a resize does about a failure follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bot_onnx._verify.examination import Examination
from bot_onnx._verify.outputs import check_outputs
from bot_onnx._verify.prediction import check_prediction
from bot_onnx._verify.types import Check
from bot_onnx._verify.validity import check_weights
from bot_onnx._verify.verdict import judge
from bot_onnx.errors import BotError


def validity(seen: Examination) -> Iterable[Check]:
    """``checker`` and ``shapes``: whether onnx takes it."""
    return seen.validity[0]


def weights(seen: Examination) -> Iterable[Check]:
    """``weights``: no NaN, no infinity."""
    if seen.wanted.allow_nonfinite:
        return [Check("weights", "skip", "NaN is allowed")]
    return [check_weights(seen.source)]


def structure(seen: Examination) -> Iterable[Check]:
    """``structure``: whether it can be analysed."""
    return [seen.analysed[1]]


def prediction(seen: Examination) -> Iterable[Check]:
    """``prediction`` and what it is of: whether the sizes are those that a plan or a spec says."""
    expected = seen.wanted.expected
    if expected is None:
        return []
    if callable(expected):
        if seen.structure is None:
            return [Check("prediction", "skip", "sizes are not compared: the analysis failed")]
        try:
            expected = expected(seen.structure)
        except BotError as error:
            return [Check("prediction", "fail", str(error))]
    return check_prediction(expected, seen.structure, seen.source)


def runs(seen: Examination) -> Iterable[Check]:
    """``load`` and ``run``: whether onnxruntime runs it at two input sizes."""
    return seen.run[1]


def outputs(seen: Examination) -> Iterable[Check]:
    """``outputs`` and ``output shapes``: whether what came out is finite, and of the shapes that were inferred."""
    if seen.trial is None:
        return []
    alike = {entry.output for entry in seen.compared.outputs if entry.nonfinite_alike}
    return check_outputs(
        seen.trial.feeds,
        seen.trial.results,
        seen.validity[1],
        allow_nonfinite=seen.wanted.allow_nonfinite,
        alike=alike,
    )


def comparison(seen: Examination) -> Iterable[Check]:
    """``comparison``: whether the outputs are what was promised of them."""
    if seen.reference is None:
        return []
    return [judge(seen.compared, seen.descent.promise, seen.locate)]


CHECKS: tuple[Callable[[Examination], Iterable[Check]], ...] = (
    validity,
    weights,
    structure,
    prediction,
    runs,
    outputs,
    comparison,
)

"""All checks of one model file, from opening it to the comparison with its source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._costs import sizing_of
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._progress import stage
from bot_onnx._structure import Structure
from bot_onnx._verify.dequantised import floating
from bot_onnx._verify.descent import UNKNOWN, Descent, find_descent
from bot_onnx._verify.expected import Expected, spec_dims
from bot_onnx._verify.locate import first_difference
from bot_onnx._verify.outputs import check_outputs, output_axes
from bot_onnx._verify.prediction import check_prediction
from bot_onnx._verify.trial import Compared, Trial, compare_with, run_model
from bot_onnx._verify.types import Check, VerifyReport
from bot_onnx._verify.validity import check_validity, check_weights
from bot_onnx._verify.verdict import judge
from bot_onnx.errors import BotError, MissingRuntimeError, VerifyError

StrPath = str | os.PathLike[str]


def verify_model(
    path: StrPath,
    *,
    expected: Expected | Callable[[Structure], Expected] | None = None,
    against: StrPath | None = None,
    against_sha256: str | None = None,
    readable: str | bytes | os.PathLike[str] | None = None,
    deep_shapes: bool = True,
    allow_nonfinite: bool = False,
    seed: int = 0,
    given: Given | None = None,
    scratch: Path | None = None,
) -> VerifyReport:
    """Check a model file. What fails is in the report; same file, same report.

    Args:
        path: of the model, as the report names it.
        expected: predictions to hold it against, or a function that makes them from the file's own structure.
        against: a model to compare outputs with, on the same inputs. Where the file says that it was made from it, its
            outputs must be what was promised, through the operators of the axes.
        against_sha256: of that model's files, where it is known already.
        readable: path that opens the file where it has not got its name yet; None: ``path`` does.
        deep_shapes: also run strict shape inference with data propagation.
        allow_nonfinite: let NaN and infinite weights and outputs pass.
        seed: of the inputs.
        given: what to run it on; None: inputs are made up.
        scratch: folder for the floats of a quantised model that it is compared with; None: among temporary files.

    Raises:
        GraphError: the file, or the one to compare with, cannot be opened.
        MissingRuntimeError: onnxruntime is not installed.
    """
    opened = os.fsdecode(path if readable is None else readable)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_model(opened, name=path, given=given))
        original = reference = None if against is None else stack.enter_context(open_model(against))
        stage("checking the format")
        checks, inferred = check_validity(source, deep_shapes=deep_shapes)
        checks.append(Check("weights", "skip", "NaN is allowed") if allow_nonfinite else check_weights(source))
        stage("analysing the structure")
        analysis, found = _analysis(source)
        structure = None if analysis is None else analysis.structure
        checks.append(found)
        if expected is not None:
            checks += _prediction(expected, structure, source)
        observed = None if analysis is None else analysis.context.observed.shapes
        descent = UNKNOWN if reference is None else find_descent(source, reference, against_sha256)
        stage("running it")
        trial, ran = run_model(source, opened, observed=observed, reference=reference, seed=seed, descent=descent)
        checks += ran
        compared = Compared()
        compared_with = None if against is None else os.fspath(against)
        if reference is not None and descent.held_in_floats:
            reference = stack.enter_context(floating(reference, scratch))
            compared_with = os.fspath(reference.path)
        if reference is not None and compared_with is not None:
            axes = {} if analysis is None else output_axes(analysis)
            compared = compare_with(reference, compared_with, trial, source.proto.graph, axes, descent)
        if trial is not None:
            alike = {entry.output for entry in compared.outputs if entry.nonfinite_alike}
            checks += check_outputs(trial.feeds, trial.results, inferred, allow_nonfinite=allow_nonfinite, alike=alike)
        if reference is not None and compared_with is not None:
            where = partial(_where, source, opened, reference, compared_with, trial, descent)
            checks.append(judge(compared, descent.promise, where))
        for read in filter(None, (source, original)):
            read.check_unchanged()
        costs = None if analysis is None else sizing_of(analysis).costs()
        report = _report(os.fspath(path), source, structure, checks, compared, descent)
        return replace(report, costs=costs)


def _where(
    source: Source,
    opened: str,
    reference: Source,
    against: str,
    trial: Trial | None,
    descent: Descent,
    wrong: Sequence[str],
) -> str | None:
    return None if trial is None else first_difference(source, opened, reference, against, trial, descent, wrong)


def raise_unless_passed(report: VerifyReport) -> None:
    """Do nothing if all checks passed.

    Raises:
        VerifyError: some failed; the message lists them.
    """
    failed = [check for check in report.checks if check.status == "fail"]
    if failed:
        listed = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise VerifyError(
            f"{report.path} failed {len(failed)} of {len(report.checks)} checks: {listed}. Ask for other sizes or "
            "another method, and run `bot-onnx verify` on the source: it tells whether the fault was there before",
            report=report,
        )


def _report(
    path: str,
    source: Source,
    structure: Structure | None,
    checks: list[Check],
    compared: Compared,
    descent: Descent,
) -> VerifyReport:
    return VerifyReport(
        path=path,
        checks=tuple(checks),
        comparisons=compared.outputs,
        promise=descent.promise,
        parameters=0 if structure is None else structure.parameters,
        size_bytes=source.size_bytes,
        layers={} if structure is None else {chain.name: chain.count for chain in structure.chains},
        dims={} if structure is None else spec_dims(structure),
    )


def _analysis(source: Source) -> tuple[Analysis | None, Check]:
    try:
        analysis = analyse(source.model())
    except MissingRuntimeError:
        raise
    except Exception as error:  # a file that breaks the analysis is a finding, whatever it breaks
        return None, Check("structure", "fail", f"it cannot be analysed: {one_line(error)}")
    structure = analysis.structure
    counts = f"{len(structure.chains)} chains, {len(structure.dims)} dims, {len(structure.stacks)} stacks"
    return analysis, Check("structure", "pass", f"{structure.nodes} nodes: {counts}")


def _prediction(
    expected: Expected | Callable[[Structure], Expected], structure: Structure | None, source: Source
) -> list[Check]:
    if callable(expected):
        if structure is None:
            return [Check("prediction", "skip", "sizes are not compared: the analysis failed")]
        try:
            expected = expected(structure)
        except BotError as error:
            return [Check("prediction", "fail", str(error))]
    return check_prediction(expected, structure, source)

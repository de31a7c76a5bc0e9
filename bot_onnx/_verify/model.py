"""All checks of one model file, from opening it to the comparison with its source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from bot_onnx._costs import sizing_of
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._structure import Structure
from bot_onnx._verify import checks as registry
from bot_onnx._verify.examination import Examination, Wanted
from bot_onnx._verify.expected import Expected, spec_dims
from bot_onnx._verify.types import Check, VerifyReport
from bot_onnx.errors import VerifyError

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
    cuda: bool = False,
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
        cuda: run the models on a CUDA device where onnxruntime can.

    Raises:
        GraphError: the file, or the one to compare with, cannot be opened.
        MissingRuntimeError: onnxruntime is not installed.
    """
    opened = os.fsdecode(path if readable is None else readable)
    wanted = Wanted(
        expected=expected,
        against=None if against is None else os.fspath(against),
        against_sha256=against_sha256,
        deep_shapes=deep_shapes,
        allow_nonfinite=allow_nonfinite,
        seed=seed,
        scratch=scratch,
        cuda=cuda,
    )
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_model(opened, name=path, given=given))
        original = None if against is None else stack.enter_context(open_model(against))
        seen = Examination(source, opened, original, wanted, stack)
        checks = tuple(check for look in registry.CHECKS for check in look(seen))
        for read in filter(None, (source, original)):
            read.check_unchanged()
        return _report(os.fspath(path), seen, checks)


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


def _report(path: str, seen: Examination, checks: tuple[Check, ...]) -> VerifyReport:
    structure, trial = seen.structure, seen.trial
    fell_back = [path] if trial is not None and trial.fell_back else []
    if seen.compared.fell_back and seen.wanted.against is not None:
        fell_back.append(seen.wanted.against)
    return VerifyReport(
        path=path,
        checks=checks,
        comparisons=seen.compared.outputs,
        promise=seen.descent.promise,
        parameters=0 if structure is None else structure.parameters,
        size_bytes=seen.source.size_bytes,
        layers={} if structure is None else {chain.name: chain.count for chain in structure.chains},
        dims={} if structure is None else spec_dims(structure),
        costs=None if seen.analysis is None else sizing_of(seen.analysis).costs(),
        fell_back=tuple(fell_back),
    )

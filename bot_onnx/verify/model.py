"""All checks of one model file, from opening it to the comparison with its source."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot_onnx.errors import BotError, MissingRuntimeError, VerifyError
from bot_onnx.graph.analysis import Analysis, analyse
from bot_onnx.graph.inputs import input_specs
from bot_onnx.graph.reader import Source, open_model
from bot_onnx.graph.tensor_protos import one_line
from bot_onnx.graph.types import Structure
from bot_onnx.verify.against import Reference, compare_with
from bot_onnx.verify.comparison import AxisMapping
from bot_onnx.verify.expected import Expected, spec_dims
from bot_onnx.verify.feeding import Feeds, batches, candidate_shapes, index_ranges
from bot_onnx.verify.outputs import OutputAxes, check_outputs, output_axes
from bot_onnx.verify.prediction import check_prediction
from bot_onnx.verify.runner import Runner
from bot_onnx.verify.types import Check, OutputComparison, VerifyReport
from bot_onnx.verify.validity import Shapes, check_validity, check_weights

StrPath = str | os.PathLike[str]


def verify_model(
    path: StrPath,
    *,
    expected: Expected | Callable[[Structure], Expected] | None = None,
    against: StrPath | None = None,
    readable: str | bytes | os.PathLike[str] | None = None,
    mapping: AxisMapping | None = None,
    deep_shapes: bool = True,
    allow_nonfinite: bool = False,
    seed: int = 0,
) -> VerifyReport:
    """Check a model file. What fails is in the report; same file, same report.

    Args:
        path: of the model, as the report names it.
        expected: predictions to hold it against, or a function that makes them from the file's own structure.
        against: a model to compare outputs with, on the same inputs.
        readable: path that opens the file where it has not got its name yet; None: ``path`` does.
        mapping: ``(output, axis, source size, target size)`` to the operator ``[target, source]`` that brings a
            source's output to the new size, or None where there is none. Without it whole ratios are mapped by means
            or copies of neighbours.
        deep_shapes: also run strict shape inference with data propagation.
        allow_nonfinite: let NaN and infinite weights and outputs pass.
        seed: of the inputs.

    Raises:
        GraphError: the file, or the one to compare with, cannot be opened.
        MissingRuntimeError: onnxruntime is not installed.
    """
    opened = os.fsdecode(path if readable is None else readable)
    with open_model(opened) as source:
        checks, inferred = check_validity(source, deep_shapes=deep_shapes)
        checks.append(Check("weights", "skip", "NaN is allowed") if allow_nonfinite else check_weights(source))
        analysis, check = _analysis(source)
        checks.append(check)
        structure = None if analysis is None else analysis.structure
        if expected is not None:
            checks += _prediction(expected, structure, source)
        observed = None if analysis is None else analysis.context.observed.shapes
        described = {} if analysis is None else output_axes(analysis)
        reference = None if against is None else Reference(Path(against), source)
        made, comparisons = _run(source, opened, observed, inferred, described, reference, mapping, allow_nonfinite, seed)
        return VerifyReport(
            path=os.fspath(path),
            checks=(*checks, *made),
            comparisons=comparisons,
            parameters=0 if structure is None else structure.parameters,
            size_bytes=source.size_bytes,
            layers={} if structure is None else {chain.name: chain.count for chain in structure.chains},
            dims={} if structure is None else spec_dims(structure),
        )

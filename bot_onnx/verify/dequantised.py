"""Whether a quantised file and the floats that it was turned into compute the same, but for the rounding."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from bot_onnx.errors import GraphError
from bot_onnx.graph.analysis import Analysis
from bot_onnx.graph.normalise import scheme_of
from bot_onnx.graph.quantised import quantised_weight
from bot_onnx.graph.reader import Source, open_model
from bot_onnx.verify.trial import compare_with, run_model
from bot_onnx.verify.types import OutputComparison

#: Mean cosine similarity of an output below which the two are not taken for the same network. Dynamic 8-bit models
#: come out at 0.995 and more, blocks of 4 bits at 1; calibrated activation scales that cut off much can be below.
LEAST_COSINE = 0.9


def check_dequantised(
    model: ir.Model, source: Source, observed: Mapping[str, tuple[tuple[int, int], ...]]
) -> tuple[OutputComparison, ...]:
    """Run the floating-point ``model`` and the quantised ``source`` on the same inputs.

    Args:
        model: normalised, as nothing has changed it yet.
        source: the quantised file.
        observed: sizes at which the analysis ran the model.

    Returns:
        How close every output is.

    Raises:
        GraphError: one of them does not run, or their outputs on inputs given differ by more than rounding explains.
    """
    with tempfile.TemporaryDirectory(prefix="bot_onnx_") as folder:
        path = Path(folder) / "float.onnx"
        ir.save(model, path, external_data="float.onnx.data", size_threshold_bytes=1024)
        with open_model(path, given=source.given) as plain:
            trial, checks = run_model(plain, str(path), observed=observed, reference=source, seed=0)
            told, compared = compare_with(source, str(source.path), trial, plain.proto.graph, {}, None)
    failed = [check.detail for check in checks if check.status == "fail"]
    if failed or not compared:
        raise GraphError(
            f"{source.path} was dequantised, but cannot be held against the result: {(failed or [told.detail])[0]}; "
            "resize the floating-point model, or do not compare with the source (--no-compare)"
        )
    worst = min(compared, key=lambda entry: entry.cosine or 0.0)
    measured = source.given is not None and bool(source.given.arrays)
    if measured and (worst.cosine is None or worst.cosine < LEAST_COSINE):
        raise GraphError(
            f"output {worst.output!r} of {source.path} and of its dequantised weights have a cosine similarity of "
            f"{worst.cosine or 0.0:.3f} on the inputs given, less than {LEAST_COSINE}: its activation scales may cut "
            "off much; resize the floating-point model, or do not compare with the source (--no-compare)"
        )
    return compared


def check_quantised(analysis: Analysis, source: Source) -> tuple[str, ...]:
    """Hold a quantised source against the floats that are resized in its stead; says how close they are.

    Made-up inputs may lie far outside of what scales were calibrated on: there a difference is told, no refusal.

    Raises:
        GraphError: they are not the same network.
    """
    if scheme_of(analysis.model) is None or quantised_weight(analysis.model.graph) is not None:
        return ()
    compared = check_dequantised(analysis.model, source, analysis.context.observed.shapes)
    told = ", ".join(f"{entry.output} {entry.cosine or 0.0:.4f}" for entry in compared)
    notes = [f"The source is quantised; its weights in floating point give its outputs with cosine {told}."]
    if min(entry.cosine or 0.0 for entry in compared) < LEAST_COSINE:
        notes.append(
            f"WARNING: that is less than {LEAST_COSINE}, on inputs that are made up: its activation scales may cut off "
            "much of them; give real ones with --inputs FILE.npz."
        )
    return tuple(notes)

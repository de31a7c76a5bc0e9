"""Whether a quantised file and the floats that it was turned into compute the same, but for the rounding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._canonical.still_packed import quantised_weight
from bot_onnx._onnxfile.atomic_output import worded
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import Scratch
from bot_onnx._verify.outputs import output_axes
from bot_onnx._verify.trial import Compared, compare_with, run_model
from bot_onnx._verify.types import OutputComparison
from bot_onnx._verify.validity import check_validity
from bot_onnx.errors import GraphError, OutputError

#: Mean cosine similarity of an output below which the two are not taken for the same network. Dynamic 8-bit models
#: come out at 0.995 and more, blocks of 4 bits at 1; calibrated activation scales that cut off much can be below.
LEAST_COSINE = 0.9

#: Part of the labels below which two classifiers are not taken for the same, where labels are all that they give.
LEAST_EQUAL = 0.9


def check_dequantised(
    analysis: Analysis, source: Source, folder: Path, readable: str | None = None
) -> tuple[tuple[OutputComparison, ...], tuple[str, ...]]:
    """Run floats and the quantised ``source`` on the same inputs.

    Args:
        analysis: of the source's floating-point form, as nothing has changed it yet.
        source: the quantised file.
        folder: a scratch folder that takes the floats while they run.
        readable: path that opens the quantised file; None: its own.

    Returns:
        How close every output is, and which have other sizes on inputs that are made up (lengths that follow from
        values, as those of speech do, are another number after rounding).

    Raises:
        GraphError: one of them does not run, their outputs on inputs given differ by more than rounding explains, or
            an axis that is never set at run time has another size.
        OutputError: there is no room for the floats.
    """
    with _saved(analysis.model, folder, source.given) as plain:
        observed = analysis.context.observed.shapes
        trial, checks = run_model(plain, str(plain.path), observed=observed, reference=source, seed=0)
        found = compare_with(source, readable or str(source.path), trial, plain.proto.graph, {})
        fixed = _fixed_axes(analysis, plain) if found.apart else {}
    failed = [check.detail for check in checks if check.status == "fail"]
    failed += [reason for reason in (found.skipped, *found.left_out) if reason]
    compared = tuple(entry for entry in found.outputs if entry.cosine is not None)
    compared = compared or tuple(entry for entry in found.outputs if entry.equal is not None)
    measured = source.given is not None and bool(source.given.arrays)
    apart = () if measured or not _lengths_alone(found, fixed) else found.faults
    if (found.faults or not compared) and not apart:
        why = [*found.faults, *failed, "its outputs hold nothing"][0]
        raise GraphError(
            f"{source.path} was dequantised, but cannot be held against the result: {why}; "
            "resize the floating-point model, or do not compare with the source (--no-compare)"
        )
    far = [entry for entry in compared if _far(entry)] if measured else []
    if far:
        raise GraphError(
            f"output {far[0].output!r} of {source.path} and of its dequantised weights {_likeness(far[0])} on the "
            "inputs given: its activation scales may cut off much; resize the floating-point model, or do not compare "
            "with the source (--no-compare)"
        )
    return compared, apart


def _far(entry: OutputComparison) -> bool:
    """Whether an output is further off than rounding explains."""
    if entry.equal is not None:
        return entry.equal < LEAST_EQUAL
    return (entry.cosine or 0.0) < LEAST_COSINE


def _likeness(entry: OutputComparison) -> str:
    if entry.equal is not None:
        return f"agree in a part of {entry.equal:.3f} of the elements, less than {LEAST_EQUAL},"
    return f"have a cosine similarity of {entry.cosine or 0.0:.3f}, less than {LEAST_COSINE},"


def _lengths_alone(found: Compared, fixed: Mapping[str, set[int]]) -> bool:
    """Whether all that is not as planned are sizes of axes that may follow from values."""
    return len(found.apart) == len(found.faults) and not any(
        fixed.get(name, set()).intersection(axes) for name, axes in found.apart.items()
    )


def _fixed_axes(analysis: Analysis, plain: Source) -> dict[str, set[int]]:
    """Axes of every output that no value sets as the network runs: shape inference knows them, or weights have them.

    That two runs saw one size proves nothing: both may have come to it by rounding.
    """
    _, inferred = check_validity(plain, deep_shapes=True)
    fixed: dict[str, set[int]] = {}
    for name, axes in output_axes(analysis).items():
        seen = analysis.context.observed.shapes.get(name, ())
        known = inferred.get(name, (None,) * len(seen))
        fixed[name] = {
            axis
            for axis, ((first, second), size, role) in enumerate(zip(seen, known, axes.roles, strict=False))
            if first == second and (size is not None or role is not None)
        }
    return fixed


@contextmanager
def _saved(model: ir.Model, folder: Path, given: Given | None = None) -> Iterator[Source]:
    """The floating-point form of a quantised file, in ``folder`` until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="bot_onnx_", dir=folder) as inner:
        path = Path(inner) / "float.onnx"
        with worded(path):
            ir.save(model, path, external_data="float.onnx.data", size_threshold_bytes=1024)
        with open_model(path, given=given) as plain:
            yield plain


@contextmanager
def floating(source: Source, folder: Path | None = None) -> Iterator[Source]:
    """A quantised file in floating point: what is resized in its stead.

    Args:
        source: the file.
        folder: a scratch folder that takes the floats until the end of the block; None: one among the system's
            temporary files (``TMPDIR``), which the next command removes where this one is killed.

    Raises:
        GraphError: it cannot be read or run.
        OutputError: there is no room for the floats.
    """
    model = analyse(source.model()).model
    if folder is not None:
        with _saved(model, folder, source.given) as plain:
            yield plain
        return
    scratch = Scratch(Path(tempfile.gettempdir()), "bot_onnx")
    try:
        with worded(scratch.path):
            inside = scratch.make()
        try:
            with _saved(model, inside, source.given) as plain:
                yield plain
        except OutputError as error:
            raise OutputError(f"{error} (TMPDIR names it)") from error
    finally:
        scratch.close()


def check_quantised(analysis: Analysis, source: Source, folder: Path, readable: str | None = None) -> tuple[str, ...]:
    """Hold a quantised source against the floats that are resized in its stead; says how close they are.

    The floats lie in ``folder``, a scratch folder, while they run; ``readable`` opens the source's file, where that has
    not yet its name.
    Made-up inputs may lie far outside of what scales were calibrated on: there a difference is told, no refusal.

    Raises:
        GraphError: they are not the same network.
    """
    if analysis.form.scheme is None or quantised_weight(analysis.model.graph) is not None:
        return ()
    compared, apart = check_dequantised(analysis, source, folder, readable)
    notes = []
    if compared:
        measure = "with cosine" if compared[0].equal is None else "the same in a part of"
        told = ", ".join(
            f"{one.output} {one.cosine or 0.0 if one.equal is None else one.equal:.4f}" for one in compared
        )
        notes.append(f"The source is quantised; its weights in floating point give its outputs {measure} {told}.")
    if apart:
        notes.append(
            "WARNING: the source is quantised, and on inputs that are made up its weights in floating point give other "
            f"shapes: output {'; '.join(apart)}. A length that follows from values may do so; give real inputs with "
            "--inputs FILE.npz to have them compared."
        )
    if any(map(_far, compared)):
        least = LEAST_COSINE if compared[0].equal is None else LEAST_EQUAL
        notes.append(
            f"WARNING: that is less than {least}, on inputs that are made up: the roundings of its activations "
            "may take or cut off much of them; give real ones with --inputs FILE.npz."
        )
    return tuple(notes)

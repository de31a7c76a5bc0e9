"""Trained weights back into a graph: every initializer that the checkpoint has an entry for gets its values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose import restore_casts, stored_type
from bot_onnx._canonical.spelling import restore_spelling
from bot_onnx._checkpoint.assign import Hints, assign
from bot_onnx._checkpoint.export import Transfer, analysed, entries, left_out
from bot_onnx._checkpoint.transfer import scatter
from bot_onnx._checkpoint.types import Array, Checkpoint
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.weight_files import Watched
from bot_onnx._onnxfile.writer import check_output, write_model
from bot_onnx._shards import ExternalLike, external_of
from bot_onnx._surgery.emit import skeleton, untouched, weight_slots
from bot_onnx._surgery.provenance import read_provenance, unpromised
from bot_onnx._verify import raise_unless_passed, verify_model
from bot_onnx.errors import CheckpointError


def insert_file(
    source: Source,
    weights: Checkpoint,
    hints: Hints,
    output: Path,
    *,
    cast: bool = False,
    force: bool = False,
    external: ExternalLike | None = None,
    read_only: tuple[Path, ...] = (),
    watched: Watched | None = None,
) -> Transfer:
    """Write a copy of a graph that holds a checkpoint's weights.

    Args:
        source: the graph; it is not written to.
        weights: the checkpoint, at the graph's sizes.
        hints: what is known of the framework; ``like`` is a checkpoint of the graph, or of its source, whose values
            they still hold. Keys are compared with those of ``weights`` in any case.
        output: the new model.
        cast: store values of another floating-point type in the graph's.
        force: replace an existing file.
        external: weights go to a file beside the model, or to several; None: as the source does.
        read_only: files besides the graph's own that must not be written to.
        watched: files that must not change meanwhile, besides the graph's own.

    Raises:
        CheckpointError: a tensor's key is not certain, or the checkpoint does not fit.
        OutputError, VerifyError: the output cannot be written, or failed a check. Nothing is left behind.
    """
    protected = (*source.files, *read_only)
    in_data = external_of(external, source.uses_external_data)
    check_output(output, external=in_data, force=force, sources=protected)
    analysis = analysed(source)
    # A checkpoint from before the training tells names by the values of the graph, or of the one it was resized from.
    before = analysis if hints.source is None and hints.like is not None else hints.source
    confirmed = replace(hints, like=weights, origin=hints.like, source=before, compare=False, partial=True)
    assignment = assign(analysis, confirmed)
    graph = analysis.model.graph
    covered = {candidate.tensor for candidates in assignment.candidates.values() for candidate in candidates}
    covered |= {name for fold in assignment.folds for name in fold.tensors}
    keys = [*assignment.candidates, *(key for fold in assignment.folds for key in fold.keys)]
    slots = weight_slots(graph, covered)
    known = read_provenance(analysis.model.metadata_props)
    digest = hashlib.sha256()

    def produce() -> Iterator[tuple[str, Array]]:
        yield from untouched(graph, slots, covered)
        for name, values in scatter(assignment, weights.read, {n: slot.shape for n, slot in slots.items()}):
            stored = stored_type(graph.initializers[name]) is not None
            yield name, _typed(name, values, slots[name].dtype, cast=cast, exact=stored)

    for key in keys:
        digest.update(np.ascontiguousarray(weights.read(key)).reshape(-1).view(np.uint8).data)
    provenance = {**unpromised(known, "weights brought in since"), "weights_sha256": digest.hexdigest()}
    restore_spelling(graph)
    restore_casts(graph, slots.keys())
    proto = skeleton(analysis, {}, set(slots), provenance)

    def check(readable: str) -> None:
        source.check_unchanged()
        if watched is not None:
            watched.check_unchanged()
        raise_unless_passed(verify_model(output, readable=readable))

    write_model(
        proto,
        list(slots.values()),
        produce(),
        output,
        external=in_data,
        force=force,
        sources=protected,
        before_publish=check,
    )
    arrays = {key: weights.read(key) for key in keys}
    unused = left_out(assignment, arrays)
    return Transfer(output, None, entries(assignment, arrays), unused, assignment.absent, assignment.notes)


def _typed(name: str, values: Array, dtype: ir.DataType, *, cast: bool, exact: bool) -> Array:
    """Values in the type that a tensor lies in.

    Args:
        name: of the tensor. values: for it. dtype: its own.
        cast: round what is of another type. exact: take what the type holds to the last bit without that: the graph
            widens the tensor where it is used, and a checkpoint has it as it is used.
    """
    wanted = dtype.numpy()
    if values.dtype == wanted:
        return values
    rounded = values.astype(wanted)
    if exact and np.array_equal(rounded, values, equal_nan=True):
        return rounded  # nothing is lost
    if not cast:
        raise CheckpointError(
            f"the checkpoint holds {values.dtype} for tensor {name!r}, the graph {wanted}: save it so, or let the "
            "values be rounded with --cast"
        )
    if not np.all(np.isfinite(rounded.astype(np.float64)) == np.isfinite(values.astype(np.float64))):
        raise CheckpointError(
            f"values for tensor {name!r} are too large for {wanted}: keep the graph's type as trained"
        )
    return rounded

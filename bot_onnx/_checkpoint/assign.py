"""From a graph and what is known of its framework to an assignment that leaves nothing open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bot_onnx._analysis.passes import Analysis
from bot_onnx._checkpoint.keys_from_source import keys_from_source
from bot_onnx._checkpoint.layers import complete_layers
from bot_onnx._checkpoint.lost_keys import recover_keys
from bot_onnx._checkpoint.match import Match, match
from bot_onnx._checkpoint.overrides import give
from bot_onnx._checkpoint.places import by_key
from bot_onnx._checkpoint.types import Array, Assignment, Checkpoint, OpenAssignment
from bot_onnx._surgery.emit import PROVENANCE
from bot_onnx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known besides the graph.

    Attributes:
        like: a checkpoint of the same network, at the graph's sizes or the source's.
        source: the model that the graph was resized from.
        names: keys by initializer; ``names_from`` is where they stand, for messages.
        strip: beginning that every key loses.
        partial: keys of ``like`` that the graph does not have are left out instead of refused.
        origin: a checkpoint to compare the source with; None: ``like``, if values may be compared at all.
        compare: the graph may hold the values of ``like``; those of a resized graph are never compared.
    """

    like: Checkpoint | None = None
    source: Analysis | None = None
    names: Mapping[str, Any] | None = None
    names_from: str = "names"
    strip: str = ""
    partial: bool = False
    origin: Checkpoint | None = None
    compare: bool = True


def assign(analysis: Analysis, hints: Hints) -> Assignment:
    """Say which entry of the framework's state dict every weight is.

    Raises:
        CheckpointError: a tensor's key is not certain, or the checkpoint given for comparison does not fit.
    """
    structure = analysis.structure
    assignment = recover_keys(analysis)
    notes: list[str] = []
    if hints.source is not None:
        origin = recover_keys(hints.source)
        confirming = hints.origin or (hints.like if hints.compare else None)
        if confirming is not None:
            fresh, read = not _resized(hints.source), _reader(hints.source)
            found = match(origin, hints.source, confirming, read, compare=fresh, what="the source")
            notes += found.notes
        keys_from_source(origin, hints.source.structure, assignment, structure)
    if hints.strip:
        _strip(assignment, hints.strip)
    if hints.names:
        give(assignment, analysis, hints.names, hints.names_from)
        complete_layers(assignment, structure)
    result = Match((), ())
    if hints.like is not None:
        result = match(
            assignment, analysis, hints.like, _reader(analysis), compare=hints.compare and not _resized(analysis)
        )
        complete_layers(assignment, structure)
    for name in assignment.idle.keys() & assignment.lost.keys():
        assignment.lost.pop(name)
        assignment.left_out[name] = assignment.idle[name]
    _refuse_open_ends(assignment, result, hints)
    homes = by_key(assignment.candidates)
    return Assignment(
        {key: tuple(candidates) for key, candidates in homes.items()},
        dict(assignment.left_out),
        result.absent,
        () if hints.like is None else tuple(key for key in hints.like.shapes if key in hints.like.buffers),
        tuple(dict.fromkeys([*analysis.form.notes(analysis.model.graph), *notes, *assignment.notes, *result.notes])),
        tuple({id(fold): fold for fold in assignment.folds.values()}.values()),
    )


def _reader(analysis: Analysis) -> Any:
    def read(name: str) -> Array:
        tensor = analysis.model.graph.initializers[name].const_value
        assert tensor is not None
        return tensor.numpy()

    return read


def _resized(analysis: Analysis) -> bool:
    return PROVENANCE in analysis.model.metadata_props


def _strip(assignment: OpenAssignment, beginning: str) -> None:
    for tensor, candidates in list(assignment.candidates.items()):
        for candidate in candidates:
            if not candidate.key.startswith(beginning):
                raise CheckpointError(f"key {candidate.key!r} (tensor {tensor!r}) does not begin with {beginning!r}")
        assignment.confirm(
            tensor, tuple(replace(candidate, key=candidate.key[len(beginning) :]) for candidate in candidates)
        )


def _refuse_open_ends(assignment: OpenAssignment, result: Match, hints: Hints) -> None:
    if assignment.lost:
        name, why = next(iter(assignment.lost.items()))
        more = f" ({len(assignment.lost) - 1} more)" if len(assignment.lost) > 1 else ""
        raise CheckpointError(
            f"the key of tensor {name!r} {list(assignment.shapes[name])} is not known: {why}{more}; give the "
            "framework's checkpoint with --like (of a resized model also its source with --source), or the key with "
            "--names"
        )
    if result.absent and not hints.partial and hints.like is not None:
        more = f" ({len(result.absent) - 1} more)" if len(result.absent) > 1 else ""
        raise CheckpointError(
            f"the graph has no tensor for {result.absent[0]!r} of {hints.like.path}{more}: it was not exported, or "
            "goes by another name; name its tensor with --names, or leave such keys out with --partial"
        )

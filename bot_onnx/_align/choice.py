"""Choose an alignment and carry it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bot_onnx._align.calibration import Calibration
from bot_onnx._align.choosing import Choosing
from bot_onnx._align.gradients import Gradients
from bot_onnx._align.gram import sum_of_squares
from bot_onnx._align.permutable_dims import find_freedom
from bot_onnx._align.permute import Permutation
from bot_onnx._align.places import Namespace
from bot_onnx._align.readings import Readings
from bot_onnx._align.rotate import Rotation
from bot_onnx._align.select import Selection
from bot_onnx._align.stream import Stream
from bot_onnx._align.stream_walk import find_stream
from bot_onnx._align.types import KINDS, Aligned, Alignment, AnyArray, Facts, Kind, Progress, Tensors
from bot_onnx._analysis.passes import Analysis
from bot_onnx._onnxfile.input_overrides import given_to
from bot_onnx._reasons import Reason, Why
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._structure import Role, Structure
from bot_onnx.errors import ResampleError

_CHOOSING: tuple[Kind, ...] = ("auto", "select", "rotate")  #: kinds that choose what stays
_AS_ALLOWED = Choosing()


def find_facts(analysis: Analysis, samples: Samples | None = None, gradients: Gradients | None = None) -> Facts:
    """What alignments need to know of a graph. To be asked before a resize changes the graph.

    Args:
        analysis: of the source.
        samples: to look at its residual stream on, where it has one.
        gradients: who takes them on the samples.
    """
    stream = _unlinked(find_stream(analysis), analysis)
    calibration = None if samples is None else Calibration(analysis.model, stream, samples)
    return Facts(find_freedom(analysis), stream, Readings(analysis, samples), calibration, gradients)


def _unlinked(stream: Stream, analysis: Analysis) -> Stream:
    """The stream, with an obstacle where another model sees it: a turn found in one of them is not the other's."""
    told = given_to(analysis.model)
    if told is None or stream.obstacle is not None:
        return stream
    table = analysis.context.table
    graph = analysis.model.graph
    for port in (*graph.inputs, *graph.outputs):
        leaves = (leaf for dim in analysis.context.axes_of(port) if dim is not None for leaf in table.leaves(dim))
        if port.name in told.linked and any(analysis.ids.get(leaf) == stream.hidden for leaf in leaves):
            return replace(stream, obstacle=Reason.of(Why.STREAM_LINKED, port.name))
    shared = min(set(told.shared).intersection(stream.writers), default=None)
    return stream if shared is None else replace(stream, obstacle=Reason.of(Why.STREAM_SHARED, shared))


class Unaligned(Alignment):
    """The source as it is."""

    kind: Kind = "none"

    def __init__(self, structure: Structure, notes: tuple[str, ...] = ()) -> None:
        self.structure, self.notes = structure, notes

    def align(self, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Aligned:
        """Nothing is looked at."""
        return _Plain(tensors)


class _Plain(Aligned):
    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def read(self, name: str) -> AnyArray:
        return self._tensors[name].numpy()

    def whole_energy(self, name: str) -> float:
        return sum_of_squares(self.read(name))

    def whole(self, name: str) -> AnyArray:
        return self.read(name)

    def cut(self, name: str, axis: int, leaf: str) -> AnyArray | None:
        return None


def plan_alignment(
    kind: Kind,
    structure: Structure,
    sizes: Mapping[str, int],
    facts: Facts,
    choosing: Choosing = _AS_ALLOWED,
    *,
    promised: bool = False,
) -> Alignment:
    """Decide on an alignment; no weight is read.

    Args:
        kind: ``none``; ``permute``: reorder the indices of dims that shrink so that neighbours are alike; ``select``:
            keep heads and neurons by what they are worth; ``rotate``: that, and turn the residual stream into the
            eigenbasis of what reads and writes it; ``auto``: none where no leaf shrinks, rotate where hidden shrinks
            and it is possible whatever the weights are, else select where there are units to choose from, else
            permute where hidden stays or the function is promised.
        structure: of the source.
        sizes: target size per dim id.
        facts: of the source's graph.
        choosing: by what units are chosen and what makes up for those that go, as far as that was asked for.
        promised: these sizes keep the function, which what is left out would change: ``auto`` leaves nothing out.

    Raises:
        ResampleError: an unknown kind, a network that cannot be rotated, nothing to choose from though a criterion is
            given, or nothing that could make up for what goes; the message says why.
        DataError: a criterion, or what makes up for what goes, needs samples.
    """
    if kind not in KINDS:
        raise ResampleError(f"no alignment '{kind}'; there are: {', '.join(KINDS)}")
    if kind not in _CHOOSING and choosing.asked:
        told = "'refit' makes up for" if choosing.keep is None else "'keep' says by what"
        raise ResampleError(
            f"{told} heads, neurons and channels {'that go' if choosing.keep is None else 'are chosen'}, and alignment "
            f"'{kind}' chooses none: take {', '.join(_CHOOSING)}, or leave --align out"
        )
    planned = _planned(kind, structure, sizes, facts, choosing, promised)
    if not planned.chooses and choosing.asked:
        why = f" ({planned.notes[0]})" if planned.notes else ""
        told = f"'refit' is '{choosing.refit}'" if choosing.keep is None else f"'keep' is '{choosing.keep}'"
        raise ResampleError(f"{told}, and nothing that shrinks can be chosen from{why}; drop it")
    return planned


def _planned(
    kind: Kind, structure: Structure, sizes: Mapping[str, int], facts: Facts, choosing: Choosing, promised: bool
) -> Alignment:
    if kind == "none":
        return Unaligned(structure)
    if kind == "rotate":
        return Rotation(structure, sizes, facts, choosing)
    if kind == "select":
        return Selection(structure, sizes, facts, choosing)
    if kind == "permute":
        return Permutation(structure, sizes, facts.freedom)
    shrinking = {d.id for d in structure.dims.values() if not d.parts and sizes.get(d.id, d.size) < d.size}
    if not shrinking:
        return Unaligned(structure)
    if not any(structure.dims[leaf].role == Role.HIDDEN for leaf in shrinking):
        selection = Selection(structure, sizes, facts, choosing)
        if choosing.asked or (selection.chooses and not promised):
            return selection
        return Permutation(structure, sizes, facts.freedom)
    try:
        return Rotation(structure, sizes, facts, choosing)
    except ResampleError as refusal:
        # Reordering takes a second a layer on wide networks, and gains little more than choosing does.
        notes = (f"Not rotated: {refusal}",)
        selection = Selection(structure, sizes, facts, choosing, notes)
        return selection if selection.chooses else Unaligned(structure, notes)


def align(alignment: Alignment, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Aligned:
    """Look at the weights and align them.

    Args:
        alignment: from :func:`plan_alignment`.
        tensors: the source's tensors by name; read one at a time, and again by :meth:`Aligned.read`.
        progress: called with (what is being looked at, steps done, steps in all).
        xp: array namespace of the large matrices: products, eigenvectors, similarities.

    Raises:
        ResampleError: the weights do not admit it; the message names the tensor.
    """
    return alignment.align(tensors, progress, xp)

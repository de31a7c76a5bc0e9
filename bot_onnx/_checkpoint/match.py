"""Confirm a graph's weights against a checkpoint: by name, by shape, and by value where the graph was not resized.

The checkpoint may have the sizes of the graph, or those of the network that the graph was resized from. In the second
case shapes still say a lot: every dim of the graph must have one size throughout the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bot_onnx._analysis.passes import Analysis
from bot_onnx._checkpoint.folds import find_folds, linear_ops
from bot_onnx._checkpoint.layers import follow_twins
from bot_onnx._checkpoint.patterns import Depths, Prefix, find_prefix
from bot_onnx._checkpoint.types import Array, Candidate, Checkpoint, OpenAssignment, Read, Shape
from bot_onnx._checkpoint.values import constant, fingerprint, match_by_value, orders, views
from bot_onnx._structure import Structure
from bot_onnx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Match:
    """What came of it: the checkpoint's keys without a tensor, and what was found out, in sentences."""

    absent: tuple[str, ...]
    notes: tuple[str, ...]


def match(
    assignment: OpenAssignment,
    analysis: Analysis,
    like: Checkpoint,
    read: Read,
    *,
    compare: bool,
    what: str = "the graph",
) -> Match:
    """Rename the candidates to the checkpoint's keys, drop those that it does not have, and confirm what is lost.

    Args:
        assignment: changed in place.
        analysis: of the graph.
        like: the checkpoint.
        read: values of an initializer.
        compare: the graph may hold the checkpoint's own values, since it was not resized.
        what: the graph, in sentences.

    Raises:
        CheckpointError: a tensor has another shape than the checkpoint's sizes make of it, or a graph whose values
            are the checkpoint's has one tensor that is not.
    """
    structure = analysis.structure
    prefix = find_prefix(
        (candidate.key for candidates in assignment.candidates.values() for candidate in candidates), like.shapes
    )
    _rename(assignment, prefix, like)
    follow_twins(assignment, structure)
    sizes = _Sizes(structure)
    same = _check_shapes(assignment, like, sizes)
    notes = (
        [f"{prefix.old!r} at the beginning of a key is {prefix.new!r} in {like.path}."] if prefix != Prefix() else []
    )
    notes.append(f"{like.path} has {f'the sizes of {what}' if same else f'other sizes than {what}'}.")
    absent = _absent(assignment, like)
    compared = same and compare
    if compared and assignment.lost:
        match_by_value(assignment, read, {key: like.read(key) for key in absent})
        find_folds(assignment, linear_ops(analysis.model.graph), like, read)
    _match_by_shape(assignment, like, sizes)
    if compared:
        notes += _compare(assignment, like, read)
    _tie(assignment, like, _absent(assignment, like))
    return Match(tuple(_absent(assignment, like)), tuple(notes))


def _rename(assignment: OpenAssignment, prefix: Prefix, like: Checkpoint) -> None:
    layers = Depths()
    for key in like.shapes:
        layers.add(key)
    for tensor, candidates in list(assignment.candidates.items()):
        renamed = [
            candidate if candidate.key in like.shapes else replace(candidate, key=prefix(candidate.key))
            for candidate in candidates
        ]
        known = tuple(
            candidate
            for candidate in renamed
            if candidate.key in like.shapes or _is_further_layer(candidate.key, layers)
        )
        if known:
            assignment.confirm(tensor, known)
        else:
            assignment.lose(tensor, f"it is {candidates[0].key!r} to the exporter, which is no key of {like.path}")


def _is_further_layer(key: str, layers: Depths) -> bool:
    return layers.has_layers_like(key) and layers.ends_before(key)


class _Sizes:
    """What size every dim of the graph has in the checkpoint, as far as is known."""

    def __init__(self, structure: Structure) -> None:
        self._axes = {name: stack.axes for stack in structure.stacks for name in stack.tensors}
        self._known: dict[str, tuple[int, str]] = {}

    def learn(self, candidate: Candidate, shape: Shape) -> None:
        """Take in the sizes of a key that is a tensor's for certain."""
        axes = self._axes.get(candidate.tensor, ())
        for dim, size in zip(axes, candidate.sizes(shape, len(axes)), strict=False):
            if dim is not None:
                self._known.setdefault(dim, (size, candidate.key))

    def misfit(self, candidate: Candidate, shape: Shape, tensor: Shape) -> str | None:
        """Why a key of this shape cannot be the tensor, or None."""
        if len(shape) != (len(tensor) if candidate.perm is None else len(candidate.perm)):
            return "they have different numbers of axes"
        axes = self._axes.get(candidate.tensor, (None,) * len(tensor))
        for axis, (theirs, ours) in enumerate(zip(candidate.sizes(shape, len(tensor)), tensor, strict=True)):
            dim = axes[axis]
            if dim is None and theirs != ours:
                return f"axis {axis} has {ours} indices, and no dim that could have been resized"
            if dim is not None and dim in self._known and self._known[dim][0] != theirs:
                size, key = self._known[dim]
                return f"its dim {dim} has {size} indices in {key!r}, here {theirs}"
        return None


def _check_shapes(assignment: OpenAssignment, like: Checkpoint, sizes: _Sizes) -> bool:
    """Check every shape against the checkpoint's; turn matrices whose orientation the shapes alone can tell.

    Returns:
        Whether all sizes are the graph's.
    """
    same = True
    # Tensors whose names were kept have the framework's orientation for certain: they say what the dims' sizes are.
    for tensor, candidates in sorted(assignment.candidates.items(), key=lambda item: item[1][0].how != "name"):
        confirmed = []
        for candidate in candidates:
            shape = like.shapes.get(candidate.key)
            if shape is None or candidate.window is not None or candidate.part is not None:
                confirmed.append(candidate)
                continue
            fitting = _fitting(candidate, shape, assignment.shapes[tensor], sizes)
            confirmed.append(fitting)
            sizes.learn(fitting, shape)
            same = same and fitting.sizes(shape, len(assignment.shapes[tensor])) == assignment.shapes[tensor]
        assignment.confirm(tensor, tuple(confirmed))
    return same


def _fitting(candidate: Candidate, shape: Shape, tensor: Shape, sizes: _Sizes) -> Candidate:
    """The candidate, or where its orientation was only concluded and does not fit, the same one transposed."""
    turned = replace(candidate, perm=(1, 0) if candidate.perm is None else None)
    options = [candidate, turned] if candidate.how in ("scope", "layer", "twin") and len(tensor) == 2 else [candidate]
    if candidate.how in ("name", "scope", "layer", "source") and not candidate.shift:
        wide = [[size for size in each if size > 1] for each in (shape, tensor)]
        if len(shape) != len(tensor) and len(wide[0]) == len(wide[1]):  # stored as a view with other axes of size 1
            options += [replace(candidate, perm=perm) for perm in views(tensor, shape)]
    for option in options:
        if sizes.misfit(option, shape, tensor) is None:
            return option
    raise CheckpointError(
        f"tensor {candidate.tensor!r} {list(tensor)} cannot be {candidate.key!r} {list(shape)} of the checkpoint: "
        f"{sizes.misfit(candidate, shape, tensor)}; give the checkpoint of the source, or one of the size"
    )


def _match_by_shape(assignment: OpenAssignment, like: Checkpoint, sizes: _Sizes) -> None:
    """Confirm a lost tensor for which only one key is left, where that is left for no other tensor."""
    absent = _absent(assignment, like)
    options: dict[str, list[Candidate]] = {}
    for tensor in assignment.lost:
        shape = assignment.shapes[tensor]
        candidates = [
            Candidate(key, tensor, "shape", perm) for key in absent for perm in orders(shape, like.shapes[key])
        ]
        options[tensor] = [
            candidate for candidate in candidates if sizes.misfit(candidate, like.shapes[candidate.key], shape) is None
        ]
    for tensor, candidates in options.items():
        others = {candidate.key for other, found in options.items() if other != tensor for candidate in found}
        if len(candidates) == 1 and candidates[0].key not in others:
            assignment.confirm(tensor, (candidates[0],))


def _absent(assignment: OpenAssignment, like: Checkpoint) -> list[str]:
    """Keys without a tensor, but those of layers that the graph does not have."""
    layers = Depths()
    keys = assignment.keys()
    for key in keys:
        layers.add(key)
    return [key for key in like.shapes if key not in keys | like.buffers and not layers.ends_before(key)]


def _compare(assignment: OpenAssignment, like: Checkpoint, read: Read) -> list[str]:
    """If the graph holds the checkpoint's values, it must do so everywhere."""
    equal: list[str] = []
    different: list[Candidate] = []
    for tensor, candidates in assignment.candidates.items():
        for candidate in candidates:
            if candidate.window is not None or candidate.part is not None or candidate.key not in like.shapes:
                continue
            ours = read(tensor)
            theirs = like.read(candidate.key).astype(ours.dtype)
            again = candidate.inward(theirs, ours.shape) if candidate.shape(ours.shape) == theirs.shape else None
            if again is not None and (np.array_equal(again, ours) or (candidate.log and np.allclose(again, ours))):
                if not constant(ours):
                    equal.append(candidate.key)
            else:
                different.append(candidate)
    if len(equal) > len(different) > 0:
        raise CheckpointError(
            f"{len(equal)} tensors hold the values of {like.path}, but {different[0].tensor!r} does not hold those of "
            f"{different[0].key!r}: the exporter has computed it from several parameters; export the model without "
            "folding, or name its key with --names"
        )
    return [f"{len(equal)} tensors hold the checkpoint's own values."] if equal else []


def _tie(assignment: OpenAssignment, like: Checkpoint, absent: list[str]) -> None:
    """Give keys without a tensor the tensors of keys with the same values: the checkpoint stores tied weights twice."""
    wanted = {like.shapes[key] for key in absent}
    holders: dict[str, list[Candidate]] = {}
    for candidates in assignment.candidates.values():
        for candidate in candidates:
            whole = candidate.window is None and candidate.part is None
            if whole and like.shapes.get(candidate.key) in wanted:
                holders.setdefault(candidate.key, []).append(candidate)
    prints = {fingerprint(values): key for key in holders if not constant(values := like.read(key))}
    shapes = {like.shapes[key] for key in holders}
    for key in absent:
        numbers: Array = like.read(key) if like.shapes[key] in shapes else np.empty(0)
        twin = prints.get(fingerprint(numbers)) if not constant(numbers) else None
        for candidate in holders.get(twin or "", ()):
            tied = replace(candidate, key=key, how="tied")
            assignment.confirm(candidate.tensor, (*assignment.candidates[candidate.tensor], tied))

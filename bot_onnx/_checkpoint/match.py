"""Settle a graph's weights against a checkpoint: by name, by shape, and by value where the graph was not resized.

The checkpoint may have the sizes of the graph, or those of the network that the graph was resized from. In the second
case shapes still say a lot: every dim of the graph must have one size throughout the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bot_onnx._analysis.passes import Analysis
from bot_onnx._checkpoint.folds import claim_folds, linear_ops
from bot_onnx._checkpoint.layers import claim_twins
from bot_onnx._checkpoint.patterns import Depths, Prefix, find_prefix
from bot_onnx._checkpoint.types import Array, Checkpoint, Claim, Draft, Read, Shape
from bot_onnx._checkpoint.values import claim_by_value, constant, fingerprint, orders, views
from bot_onnx._structure import Structure
from bot_onnx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Match:
    """What came of it: the checkpoint's keys without a tensor, and what was found out, in sentences."""

    absent: tuple[str, ...]
    notes: tuple[str, ...]


def match(
    draft: Draft,
    analysis: Analysis,
    like: Checkpoint,
    read: Read,
    *,
    compare: bool,
    what: str = "the graph",
) -> Match:
    """Rename the draft's claims to the checkpoint's keys, drop those it does not have, and settle what is lost.

    Args:
        draft: changed in place.
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
    prefix = find_prefix((claim.key for claims in draft.claims.values() for claim in claims), like.shapes)
    _rename(draft, prefix, like)
    claim_twins(draft, structure)
    sizes = _Sizes(structure)
    same = _check_shapes(draft, like, sizes)
    notes = (
        [f"{prefix.old!r} at the beginning of a key is {prefix.new!r} in {like.path}."] if prefix != Prefix() else []
    )
    notes.append(f"{like.path} has {f'the sizes of {what}' if same else f'other sizes than {what}'}.")
    absent = _absent(draft, like)
    compared = same and compare
    if compared and draft.lost:
        claim_by_value(draft, read, {key: like.read(key) for key in absent})
        claim_folds(draft, linear_ops(analysis.model.graph), like, read)
    _claim_by_shape(draft, like, sizes)
    if compared:
        notes += _compare(draft, like, read)
    _tie(draft, like, _absent(draft, like))
    return Match(tuple(_absent(draft, like)), tuple(notes))


def _rename(draft: Draft, prefix: Prefix, like: Checkpoint) -> None:
    layers = Depths()
    for key in like.shapes:
        layers.add(key)
    for tensor, claims in list(draft.claims.items()):
        renamed = [claim if claim.key in like.shapes else replace(claim, key=prefix(claim.key)) for claim in claims]
        known = tuple(claim for claim in renamed if claim.key in like.shapes or _is_further_layer(claim.key, layers))
        if known:
            draft.settle(tensor, known)
        else:
            draft.lose(tensor, f"it is {claims[0].key!r} to the exporter, which is no key of {like.path}")


def _is_further_layer(key: str, layers: Depths) -> bool:
    return layers.has_layers_like(key) and layers.ends_before(key)


class _Sizes:
    """What size every dim of the graph has in the checkpoint, as far as is known."""

    def __init__(self, structure: Structure) -> None:
        self._axes = {name: stack.axes for stack in structure.stacks for name in stack.tensors}
        self._known: dict[str, tuple[int, str]] = {}

    def learn(self, claim: Claim, shape: Shape) -> None:
        """Take in the sizes of a key that is a tensor's for certain."""
        axes = self._axes.get(claim.tensor, ())
        for dim, size in zip(axes, claim.sizes(shape, len(axes)), strict=False):
            if dim is not None:
                self._known.setdefault(dim, (size, claim.key))

    def misfit(self, claim: Claim, shape: Shape, tensor: Shape) -> str | None:
        """Why a key of this shape cannot be the tensor, or None."""
        if len(shape) != (len(tensor) if claim.perm is None else len(claim.perm)):
            return "they have different numbers of axes"
        axes = self._axes.get(claim.tensor, (None,) * len(tensor))
        for axis, (theirs, ours) in enumerate(zip(claim.sizes(shape, len(tensor)), tensor, strict=True)):
            dim = axes[axis]
            if dim is None and theirs != ours:
                return f"axis {axis} has {ours} indices, and no dim that could have been resized"
            if dim is not None and dim in self._known and self._known[dim][0] != theirs:
                size, key = self._known[dim]
                return f"its dim {dim} has {size} indices in {key!r}, here {theirs}"
        return None


def _check_shapes(draft: Draft, like: Checkpoint, sizes: _Sizes) -> bool:
    """Check every shape against the checkpoint's; turn matrices whose orientation the shapes alone can tell.

    Returns:
        Whether all sizes are the graph's.
    """
    same = True
    # Tensors whose names were kept have the framework's orientation for certain: they say what the dims' sizes are.
    for tensor, claims in sorted(draft.claims.items(), key=lambda item: item[1][0].how != "name"):
        settled = []
        for claim in claims:
            shape = like.shapes.get(claim.key)
            if shape is None or claim.window is not None or claim.part is not None:
                settled.append(claim)
                continue
            fitting = _fitting(claim, shape, draft.shapes[tensor], sizes)
            settled.append(fitting)
            sizes.learn(fitting, shape)
            same = same and fitting.sizes(shape, len(draft.shapes[tensor])) == draft.shapes[tensor]
        draft.settle(tensor, tuple(settled))
    return same


def _fitting(claim: Claim, shape: Shape, tensor: Shape, sizes: _Sizes) -> Claim:
    """The claim, or where its orientation was only concluded and does not fit, the same one transposed."""
    turned = replace(claim, perm=(1, 0) if claim.perm is None else None)
    options = [claim, turned] if claim.how in ("scope", "layer", "twin") and len(tensor) == 2 else [claim]
    if claim.how in ("name", "scope", "layer", "source") and not claim.shift:
        wide = [[size for size in each if size > 1] for each in (shape, tensor)]
        if len(shape) != len(tensor) and len(wide[0]) == len(wide[1]):  # stored as a view with other axes of size 1
            options += [replace(claim, perm=perm) for perm in views(tensor, shape)]
    for option in options:
        if sizes.misfit(option, shape, tensor) is None:
            return option
    raise CheckpointError(
        f"tensor {claim.tensor!r} {list(tensor)} cannot be {claim.key!r} {list(shape)} of the checkpoint: "
        f"{sizes.misfit(claim, shape, tensor)}; give the checkpoint of the source, or one of the size"
    )


def _claim_by_shape(draft: Draft, like: Checkpoint, sizes: _Sizes) -> None:
    """Settle a lost tensor for which only one key is left, where that is left for no other tensor."""
    absent = _absent(draft, like)
    options: dict[str, list[Claim]] = {}
    for tensor in draft.lost:
        shape = draft.shapes[tensor]
        claims = [Claim(key, tensor, "shape", perm) for key in absent for perm in orders(shape, like.shapes[key])]
        options[tensor] = [claim for claim in claims if sizes.misfit(claim, like.shapes[claim.key], shape) is None]
    for tensor, claims in options.items():
        others = {claim.key for other, found in options.items() if other != tensor for claim in found}
        if len(claims) == 1 and claims[0].key not in others:
            draft.settle(tensor, (claims[0],))


def _absent(draft: Draft, like: Checkpoint) -> list[str]:
    """Keys without a tensor, but those of layers that the graph does not have."""
    layers = Depths()
    keys = draft.keys()
    for key in keys:
        layers.add(key)
    return [key for key in like.shapes if key not in keys | like.buffers and not layers.ends_before(key)]


def _compare(draft: Draft, like: Checkpoint, read: Read) -> list[str]:
    """If the graph holds the checkpoint's values, it must do so everywhere."""
    equal: list[str] = []
    different: list[Claim] = []
    for tensor, claims in draft.claims.items():
        for claim in claims:
            if claim.window is not None or claim.part is not None or claim.key not in like.shapes:
                continue
            ours = read(tensor)
            theirs = like.read(claim.key).astype(ours.dtype)
            again = claim.inward(theirs, ours.shape) if claim.shape(ours.shape) == theirs.shape else None
            if again is not None and (np.array_equal(again, ours) or (claim.log and np.allclose(again, ours))):
                if not constant(ours):
                    equal.append(claim.key)
            else:
                different.append(claim)
    if len(equal) > len(different) > 0:
        raise CheckpointError(
            f"{len(equal)} tensors hold the values of {like.path}, but {different[0].tensor!r} does not hold those of "
            f"{different[0].key!r}: the exporter has computed it from several parameters; export the model without "
            "folding, or name its key with --names"
        )
    return [f"{len(equal)} tensors hold the checkpoint's own values."] if equal else []


def _tie(draft: Draft, like: Checkpoint, absent: list[str]) -> None:
    """Give keys without a tensor the tensors of keys with the same values: the checkpoint stores tied weights twice."""
    wanted = {like.shapes[key] for key in absent}
    holders: dict[str, list[Claim]] = {}
    for claims in draft.claims.values():
        for claim in claims:
            whole = claim.window is None and claim.part is None
            if whole and like.shapes.get(claim.key) in wanted:
                holders.setdefault(claim.key, []).append(claim)
    prints = {fingerprint(values): key for key in holders if not constant(values := like.read(key))}
    shapes = {like.shapes[key] for key in holders}
    for key in absent:
        numbers: Array = like.read(key) if like.shapes[key] in shapes else np.empty(0)
        twin = prints.get(fingerprint(numbers)) if not constant(numbers) else None
        for claim in holders.get(twin or "", ()):
            tied = replace(claim, key=key, how="tied")
            draft.settle(claim.tensor, (*draft.claims[claim.tensor], tied))

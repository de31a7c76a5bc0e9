"""Settle a graph's weights against a checkpoint: by name, by shape, and by value where the graph was not resized.

The checkpoint may have the sizes of the graph, or those of the network that the graph was resized from. In the second
case shapes still say a lot: every dim of the graph must have one size throughout the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bot_onnx.checkpoint.patterns import Depths, Prefix, find_prefix
from bot_onnx.checkpoint.types import Array, Checkpoint, Claim, Draft, Read, Shape
from bot_onnx.checkpoint.values import claim_by_value, constant, fingerprint
from bot_onnx.errors import CheckpointError
from bot_onnx.graph.types import Structure


@dataclass(frozen=True, slots=True)
class Match:
    """What came of it: the checkpoint's keys without a tensor, and what was found out, in sentences."""

    absent: tuple[str, ...]
    notes: tuple[str, ...]


def match(draft: Draft, structure: Structure, like: Checkpoint, read: Read, *, compare: bool) -> Match:
    """Rename the draft's claims to the checkpoint's keys, drop those it does not have, and settle what is lost.

    Args:
        draft: changed in place.
        structure: of the graph.
        like: the checkpoint.
        read: values of an initializer.
        compare: the graph may hold the checkpoint's own values, since it was not resized.

    Raises:
        CheckpointError: a tensor has another shape than the checkpoint's sizes make of it, or a graph whose values
            are the checkpoint's has one tensor that is not.
    """
    prefix = find_prefix((claim.key for claims in draft.claims.values() for claim in claims), like.shapes)
    _rename(draft, prefix, like)
    same = _check_shapes(draft, structure, like)
    notes = (
        [f"{prefix.old!r} at the beginning of a key is {prefix.new!r} in {like.path}."] if prefix != Prefix() else []
    )
    notes.append(f"{like.path} has {'the sizes of the graph' if same else 'other sizes than the graph'}.")
    absent = _absent(draft, like)
    compared = same and compare
    if compared and draft.lost:
        claim_by_value(draft, read, {key: like.read(key) for key in absent})
        absent = _absent(draft, like)
    if compared:
        notes += _compare(draft, like, read)
    _tie(draft, like, absent)
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


def _check_shapes(draft: Draft, structure: Structure, like: Checkpoint) -> bool:
    """Check every shape against the checkpoint's; turn matrices whose orientation the shapes alone can tell.

    Returns:
        Whether all sizes are the graph's.
    """
    axes = {name: stack.axes for stack in structure.stacks for name in stack.tensors}
    sizes: dict[str, tuple[int, str]] = {}
    same = True
    # Tensors whose names were kept have the framework's orientation for certain: they say what the dims' sizes are.
    for tensor, claims in sorted(draft.claims.items(), key=lambda item: item[1][0].how != "name"):
        settled = []
        for claim in claims:
            shape = like.shapes.get(claim.key)
            if shape is None or claim.window is not None or claim.part is not None:
                settled.append(claim)
                continue
            fitting = _fitting(claim, shape, draft.shapes[tensor], axes.get(tensor), sizes)
            settled.append(fitting)
            found = _backwards(shape, fitting.perm)
            same = same and found == draft.shapes[tensor]
            for dim, size in zip(axes.get(tensor) or (), found, strict=False):
                if dim is not None:
                    sizes.setdefault(dim, (size, claim.key))
        draft.settle(tensor, tuple(settled))
    return same


def _fitting(
    claim: Claim,
    shape: Shape,
    tensor: Shape,
    axes: tuple[str | None, ...] | None,
    sizes: Mapping[str, tuple[int, str]],
) -> Claim:
    """The claim, or where its orientation was only concluded and does not fit, the same one transposed."""
    turned = replace(claim, perm=(1, 0) if claim.perm is None else None)
    options = [claim, turned] if claim.how in ("scope", "layer", "twin") and len(tensor) == 2 else [claim]
    reasons = []
    for option in options:
        reason = _misfit(option, shape, tensor, axes, sizes)
        if reason is None:
            return option
        reasons.append(reason)
    raise CheckpointError(
        f"tensor {claim.tensor!r} {list(tensor)} cannot be {claim.key!r} {list(shape)} of the checkpoint: "
        f"{reasons[0]}; give the checkpoint that the model was exported from, or one of its size"
    )


def _misfit(
    claim: Claim,
    shape: Shape,
    tensor: Shape,
    axes: tuple[str | None, ...] | None,
    sizes: Mapping[str, tuple[int, str]],
) -> str | None:
    if len(shape) != len(tensor):
        return "they have different numbers of axes"
    for axis, (theirs, ours) in enumerate(zip(_backwards(shape, claim.perm), tensor, strict=True)):
        dim = axes[axis] if axes is not None else None
        if dim is None and theirs != ours:
            return f"axis {axis} has {ours} indices, and no dim that could have been resized"
        if dim is not None and dim in sizes and sizes[dim][0] != theirs:
            return f"its dim {dim} has {sizes[dim][0]} indices in {sizes[dim][1]!r}, here {theirs}"
    return None


def _backwards(shape: Shape, perm: tuple[int, ...] | None) -> Shape:
    """Sizes in the order of the initializer's axes."""
    return shape if perm is None else tuple(shape[int(axis)] for axis in np.argsort(perm))


def _absent(draft: Draft, like: Checkpoint) -> list[str]:
    """Keys without a tensor, but those of layers that the graph does not have."""
    layers = Depths()
    keys = {claim.key for claims in draft.claims.values() for claim in claims}
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
            if np.array_equal(ours if claim.perm is None else ours.transpose(claim.perm), theirs):
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

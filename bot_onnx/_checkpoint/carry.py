"""Keys of a resized graph from those of the model that it was resized from, whose values a checkpoint can confirm."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from bot_onnx._checkpoint.layers import complete_layers
from bot_onnx._checkpoint.types import Claim, Draft, Window
from bot_onnx._structure import Structure


def carry(source: Draft, source_structure: Structure, target: Draft, structure: Structure) -> None:
    """Give the tensors of ``target`` the claims that ``source`` has for those of the same names.

    A resize keeps the names of the tensors of the layers that it keeps; the layers that it adds follow from them.
    Windows of joined tensors move with the parts of their axis.
    """
    for tensor in list(target.shapes):
        claims = source.claims.get(tensor)
        if claims is None:
            fold = source.folds.get(tensor)
            if fold is not None and set(fold.tensors) <= target.shapes.keys():
                target.settle_fold(fold)
            elif tensor in target.folds:
                continue
            elif tensor in source.left_out and tensor in target.lost:
                target.lost.pop(tensor)
                target.left_out[tensor] = source.left_out[tensor]
            elif tensor not in target.left_out:
                target.lose(tensor, source.lost.get(tensor, "the source has no tensor of this name"))
            continue
        moved = [_moved(claim, source_structure, structure) for claim in claims]
        if None in moved:
            target.lose(tensor, "it joins several keys, and how long each of them became is not known")
        else:
            target.settle(tensor, tuple(replace(claim, how="source") for claim in moved if claim is not None))
    complete_layers(target, structure)


def _moved(claim: Claim, source: Structure, target: Structure) -> Claim | None:
    if claim.window is None:
        return claim
    before, after = (_bounds(structure, claim.tensor, claim.window.axis) for structure in (source, target))
    places = [(claim.window.start, claim.window.stop), *claim.window.zeros]
    if len(before) != len(after) or any(bound not in before for place in places for bound in place):
        return None
    moved = [(after[before.index(start)], after[before.index(stop)]) for start, stop in places]
    return replace(claim, window=Window(claim.window.axis, *moved[0], after[-1], tuple(moved[1:])))


def _bounds(structure: Structure, tensor: str, axis: int) -> list[int]:
    """Where the parts of an axis begin and end."""
    stack = next((stack for stack in structure.stacks if tensor in stack.tensors), None)
    identity = stack.axes[axis] if stack is not None else None
    if identity is None:
        return []
    dim = structure.dims[identity]
    parts = [structure.dims[part].size for part in dim.parts] if dim.kind == "concat" else [dim.size]
    return list(accumulate(parts, initial=0))

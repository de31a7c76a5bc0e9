"""Keys of a resized graph from those of the model that it was resized from, whose values a checkpoint can confirm."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from bot_onnx._checkpoint.layers import complete_layers
from bot_onnx._checkpoint.types import Candidate, OpenAssignment, Window
from bot_onnx._structure import Structure


def keys_from_source(
    source: OpenAssignment, source_structure: Structure, target: OpenAssignment, structure: Structure
) -> None:
    """Give the tensors of ``target`` the candidates that ``source`` has for those of the same names.

    A resize keeps the names of the tensors of the layers that it keeps; the layers that it adds follow from them.
    Windows of joined tensors move with the parts of their axis.
    """
    for tensor in list(target.shapes):
        candidates = source.candidates.get(tensor)
        if candidates is None:
            fold = source.folds.get(tensor)
            if fold is not None and set(fold.tensors) <= target.shapes.keys():
                target.confirm_fold(fold)
            elif tensor in target.folds:
                continue
            elif tensor in source.left_out and tensor in target.lost:
                target.lost.pop(tensor)
                target.left_out[tensor] = source.left_out[tensor]
            elif tensor not in target.left_out:
                target.lose(tensor, source.lost.get(tensor, "the source has no tensor of this name"))
            continue
        moved = [_moved(candidate, source_structure, structure) for candidate in candidates]
        if None in moved:
            target.lose(tensor, "it joins several keys, and how long each of them became is not known")
        else:
            target.confirm(
                tensor, tuple(replace(candidate, how="source") for candidate in moved if candidate is not None)
            )
    complete_layers(target, structure)


def _moved(candidate: Candidate, source: Structure, target: Structure) -> Candidate | None:
    if candidate.window is None:
        return candidate
    before, after = (_bounds(structure, candidate.tensor, candidate.window.axis) for structure in (source, target))
    places = [(candidate.window.start, candidate.window.stop), *candidate.window.zeros]
    if len(before) != len(after) or any(bound not in before for place in places for bound in place):
        return None
    moved = [(after[before.index(start)], after[before.index(stop)]) for start, stop in places]
    return replace(candidate, window=Window(candidate.window.axis, *moved[0], after[-1], tuple(moved[1:])))


def _bounds(structure: Structure, tensor: str, axis: int) -> list[int]:
    """Where the parts of an axis begin and end."""
    stack = next((stack for stack in structure.stacks if tensor in stack.tensors), None)
    identity = stack.axes[axis] if stack is not None else None
    if identity is None:
        return []
    dim = structure.dims[identity]
    parts = [structure.dims[part].size for part in dim.parts] if dim.kind == "concat" else [dim.size]
    return list(accumulate(parts, initial=0))

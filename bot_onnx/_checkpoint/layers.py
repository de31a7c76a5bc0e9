"""Keys that follow from those of others: of the other layers of a stack, of the embedding that a head copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bot_onnx._analysis.numbered_names import Numbering
from bot_onnx._checkpoint.types import Candidate, OpenAssignment
from bot_onnx._structure import Structure


def complete_layers(assignment: OpenAssignment, structure: Structure) -> None:
    """Give lost tensors of layers the keys that their counterparts in other layers have, with the layer's number."""
    for stack in structure.stacks:
        if stack.chain is None or stack.shared:
            continue
        known = {
            index: assignment.candidates[name]
            for index, name in enumerate(stack.tensors)
            if name in assignment.candidates
        }
        for index, name in enumerate(stack.tensors):
            if name in assignment.lost and (candidates := _continued(known, index, name)):
                assignment.confirm(name, candidates)


def follow_twins(assignment: OpenAssignment, structure: Structure) -> None:
    """Give a transposed copy of an embedding that has no key of its own the embedding's keys."""
    stacks = {stack.id: stack for stack in structure.stacks}
    for stack in stacks.values():
        name = stack.tensors[0]
        if stack.twin_of is None or name not in assignment.lost:
            continue
        original = assignment.candidates.get(stacks[stack.twin_of].tensors[0], ())
        whole = [
            candidate
            for candidate in original
            if candidate.perm is None and candidate.window is None and candidate.part is None
        ]
        if whole:
            assignment.confirm(name, tuple(Candidate(candidate.key, name, "twin", (1, 0)) for candidate in whole))


def _continued(known: Mapping[int, tuple[Candidate, ...]], index: int, name: str) -> tuple[Candidate, ...]:
    """Claims of layer ``index``, or none if the known layers do not say them with one voice."""
    if not known or len({tuple(_but_key(candidate) for candidate in candidates) for candidates in known.values()}) > 1:
        return ()
    candidates: list[Candidate] = []
    for position, model in enumerate(next(iter(known.values()))):
        key = continued_key({layer: layers[position].key for layer, layers in known.items()}, index)
        if key is None:
            return ()
        candidates.append(replace(model, key=key, tensor=name, how="layer"))
    return tuple(candidates)


def _but_key(candidate: Candidate) -> Candidate:
    return replace(candidate, key="", tensor="", how="layer")


def continued_key(known: Mapping[int, str], index: int) -> str | None:
    """Key of layer ``index``, given those of others: ``h.4.ln`` and ``h.5.ln`` continue as ``h.6.ln``.

    With one layer known, the key must hold one number that stands alone between dots.
    """
    first, last = min(known), max(known)
    if first == last:
        parts = known[first].split(".")
        numbers = [place for place, part in enumerate(parts) if part.isdigit()]
        if len(numbers) != 1:
            return None
        parts[numbers[0]] = str(int(parts[numbers[0]]) + index - first)
        return ".".join(parts) if int(parts[numbers[0]]) >= 0 else None
    counting = Numbering.between(known[first], known[last], first, last - first)
    if counting is None or counting.step != 1 or any(counting.name(layer) != key for layer, key in known.items()):
        return None
    return counting.name(index)

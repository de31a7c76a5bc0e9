"""Keys that follow from those of others: of the other layers of a stack, of the embedding that a head copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bot_onnx._analysis.numbered_names import Numbering
from bot_onnx._checkpoint.types import Claim, Draft
from bot_onnx._structure import Structure


def complete_layers(draft: Draft, structure: Structure) -> None:
    """Give lost tensors of layers the keys that their counterparts in other layers have, with the layer's number."""
    for stack in structure.stacks:
        if stack.chain is None or stack.shared:
            continue
        known = {index: draft.claims[name] for index, name in enumerate(stack.tensors) if name in draft.claims}
        for index, name in enumerate(stack.tensors):
            if name in draft.lost and (claims := _continued(known, index, name)):
                draft.settle(name, claims)


def claim_twins(draft: Draft, structure: Structure) -> None:
    """Give a transposed copy of an embedding that has no key of its own the embedding's keys."""
    stacks = {stack.id: stack for stack in structure.stacks}
    for stack in stacks.values():
        name = stack.tensors[0]
        if stack.twin_of is None or name not in draft.lost:
            continue
        original = draft.claims.get(stacks[stack.twin_of].tensors[0], ())
        whole = [claim for claim in original if claim.perm is None and claim.window is None and claim.part is None]
        if whole:
            draft.settle(name, tuple(Claim(claim.key, name, "twin", (1, 0)) for claim in whole))


def _continued(known: Mapping[int, tuple[Claim, ...]], index: int, name: str) -> tuple[Claim, ...]:
    """Claims of layer ``index``, or none if the known layers do not say them with one voice."""
    if not known or len({tuple(_but_key(claim) for claim in claims) for claims in known.values()}) > 1:
        return ()
    claims: list[Claim] = []
    for position, model in enumerate(next(iter(known.values()))):
        key = continued_key({layer: layers[position].key for layer, layers in known.items()}, index)
        if key is None:
            return ()
        claims.append(replace(model, key=key, tensor=name, how="layer"))
    return tuple(claims)


def _but_key(claim: Claim) -> Claim:
    return replace(claim, key="", tensor="", how="layer")


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

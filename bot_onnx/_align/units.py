"""Units that a resize lets choose from: heads, key and value heads with their groups, neurons, channels.

All weights along a unit go or stay together: the two maps of a gate, queries with their keys and values, a filter with
the scale of the norm behind it. Units that live inside the layers of a chain are chosen layer by layer, all others once
for the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from bot_onnx._align.axes import leaves_of
from bot_onnx._align.mobility import Mobility
from bot_onnx._structure import Role, Stack, Structure
from bot_onnx.errors import said

HEAD_ROLES = (Role.HEADS, Role.KV_HEADS, Role.GROUP)
_ROLES = frozenset({Role.HIDDEN, Role.INTERMEDIATE, Role.CONV_GROUPS, Role.FREE, *HEAD_ROLES})
#: Kinds of tensors that are weights of units, or biases added to what makes them.
WEIGHTS = frozenset({"matrix", "kernel", "embedding", "table", "bias"})
READERS = frozenset({"matrix", "kernel"})


@dataclass(frozen=True, slots=True)
class Units:
    """Units of one kind.

    Attributes:
        leaves: their leaf; for grouped heads the key and value heads, and the group.
        chain: in whose layers they live; None: they are chosen once for the network.
        name: for people.
        carriers: stacks along them, and by which axis.
    """

    leaves: tuple[str, ...]
    chain: str | None
    name: str
    carriers: tuple[tuple[Stack, int], ...]

    def readers(self) -> tuple[tuple[Stack, int], ...]:
        """Weights that read what the units make, and along which axis."""
        return tuple((s, axis) for s, axis in self.carriers if s.kind in READERS and s.directions[axis] == "in")

    def tensors(self, stack: Stack, layer: int) -> tuple[str, ...]:
        """Names of the tensors of a stack along the units that are chosen for a layer."""
        return stack.tensors if self.chain is None else (stack.tensors[layer],)


def find_units(structure: Structure, mobile: Mobility, *, everywhere: bool) -> tuple[list[Units], list[str]]:
    """What a resize lets choose from, and notes on what is left to the resampling method.

    Args:
        structure: of the source.
        mobile: what binds its leaves.
        everywhere: also units that live outside the layers: channels of the residual stream.
    """
    found: list[Units] = []
    notes: list[str] = []
    done: set[str] = set()
    for dim in structure.dims.values():
        if dim.id in done or dim.parts or dim.role not in _ROLES or not mobile.shrinks(dim.id):
            continue
        leaves = _leaves(structure, mobile, dim.id)
        done.update(leaves)
        why = next((bound for leaf in leaves if (bound := _bound(mobile, leaf)) is not None), None)
        homes = {mobile.home(leaf) for leaf in leaves} if why is None else {None}
        if why is None and None in homes and not everywhere:
            continue
        if why is not None or len(homes) > 1:
            notes.append(f"{dim.name} is resampled, not chosen from: {why or 'its parts live in different places'}")
            continue
        found.append(Units(leaves, homes.pop(), dim.name, _carriers(structure, mobile, leaves)))
    return found, notes


def _bound(mobile: Mobility, leaf: str) -> str | None:
    if leaf not in mobile.carriers:
        return "no weight has it"
    bound = mobile.bound(leaf)
    return None if bound is None else said(bound)


def _leaves(structure: Structure, mobile: Mobility, leaf: str) -> tuple[str, ...]:
    """The leaf, with the key and value heads that it groups or the group that they have."""
    if structure.dims[leaf].role not in HEAD_ROLES:
        return (leaf,)
    for stack in mobile.carriers.get(leaf, ()):
        for dim in stack.axes:
            inside = leaves_of(structure, dim) if dim is not None else []
            heads = tuple(dict.fromkeys(part for part in inside if structure.dims[part].role in HEAD_ROLES))
            if leaf in heads and len(heads) > 1 and mobile.lies_within(heads[1], heads[0]):
                return heads[:2]
    return (leaf,)


def _carriers(structure: Structure, mobile: Mobility, leaves: tuple[str, ...]) -> tuple[tuple[Stack, int], ...]:
    stacks = {stack.id: stack for leaf in leaves for stack in mobile.carriers[leaf]}
    return tuple(
        (stack, axis)
        for stack in stacks.values()
        if stack.kind in WEIGHTS and stack.twin_of is None
        for axis, dim in enumerate(stack.axes)
        if dim is not None and set(leaves).intersection(leaves_of(structure, dim))
    )

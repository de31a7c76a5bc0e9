"""Which leaves may be reordered (or picked from), and whether every layer may do so in its own way."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx._align.axes import leaves_of, outer_leaves
from bot_onnx._align.permutable_dims import Freedom
from bot_onnx._patterns.closed_forms import treats_alike
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Role, Stack, Structure

_FIXED_ROLES = frozenset({Role.VOCAB, Role.POSITIONS, Role.IO, Role.SPATIAL, Role.COUNT, Role.OUT, Role.HALF_HEAD_DIM})
_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"})


class Mobility:
    """What binds each leaf of a structure, by the targets of a resize; no weight is looked at."""

    def __init__(self, structure: Structure, sizes: Mapping[str, int], freedom: Freedom) -> None:
        self.structure, self._sizes, self._freedom = structure, sizes, freedom
        self.carriers: dict[str, list[Stack]] = {}
        for stack in structure.stacks:
            for leaf in {leaf for dim in stack.axes if dim for leaf in leaves_of(structure, dim)}:
                self.carriers.setdefault(leaf, []).append(stack)
        self._stacked = {name for stack in structure.stacks for name in stack.tensors}

    def shrinks(self, leaf: str) -> bool:
        """Whether the resize makes a leaf smaller."""
        return self._sizes.get(leaf, self.structure.dims[leaf].size) < self.structure.dims[leaf].size

    def bound(self, leaf: str) -> Reason | None:
        """Why a leaf must keep its order, or None."""
        dim = self.structure.dims[leaf]
        if dim.frozen is not None:
            return dim.frozen
        if dim.role in _FIXED_ROLES:
            return Reason.of(Why.MEANT, dim.role)
        if leaf in self._freedom.pinned:
            return self._freedom.pinned[leaf]
        if leaf in self._freedom.outputs:
            return self._freedom.outputs[leaf]
        for stack in self.carriers[leaf]:
            plain = stack.closed_form is None or treats_alike(stack.closed_form)
            if not plain or stack.dtype not in _FLOATS:
                return Reason.of(Why.TABLE_ALONG, stack.name)
        holders = {name for d in self.structure.dims.values() if leaf in leaves_of(self.structure, d.id)
                   for name, _ in d.occurrences}  # fmt: skip
        stray = sorted(holders - self._stacked)
        return Reason.of(Why.NO_WEIGHT, stray[0]) if stray else None

    def home(self, leaf: str) -> str | None:
        """The chain in whose layers alone a leaf lives, or None."""
        stacks = self.carriers[leaf]
        chain = stacks[0].chain
        private = chain is not None and all(stack.chain == chain and not stack.shared for stack in stacks)
        return chain if private and leaf not in self._freedom.crossing.get(chain or "", ()) else None

    def lies_within(self, leaf: str, outer: str) -> bool:
        """Whether every axis with ``leaf`` tells which index of ``outer`` it belongs to."""
        dims = {dim for stack in self.carriers[leaf] for dim in stack.axes if dim is not None}
        return all(outer in before for dim in dims for before in outer_leaves(self.structure, dim, leaf))

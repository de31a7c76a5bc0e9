"""The dims of a graph as a directed acyclic graph of products and concatenations over leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from bot_onnx._structure import Dim, Role, Structure
from bot_onnx.errors import GraphError


def combine(dim: Dim, sizes: Mapping[str, int]) -> int:
    """Return a composite's size from its parts': their product, or their sum."""
    parts = [sizes[part] for part in dim.parts]
    return math.prod(parts) if dim.kind == "product" else sum(parts)


class Composition:
    """Who is made of whom.

    Where grouped queries appear only as ``kv_heads x group x head_dim``, the number of query heads is no dim of its
    own; a virtual dim of role ``heads`` stands in for it, so that a spec can ask for heads all the same.

    Attributes:
        dims: every dim of the structure by id, then the virtual ones.
        virtual: ids that are not the structure's.
        order: ids with every composite before its parts.
        owners: composites by the id of a part.
        equals: ids of the dims that must have the size of a dim, by its id.

    Raises:
        GraphError: a part that is no dim, a composite within itself, or one whose size does not follow from its parts.
    """

    def __init__(self, structure: Structure) -> None:
        self.dims: dict[str, Dim] = dict(structure.dims)
        self.virtual: frozenset[str] = frozenset(self._add_virtual_heads())
        self.order: tuple[str, ...] = self._sorted()
        self.owners: dict[str, tuple[str, ...]] = self._owners()
        self.equals: dict[str, tuple[str, ...]] = self._equals((*structure.equal_sizes, *structure.dealt))
        self._number = {ident: number for number, ident in enumerate(self.dims)}
        self._closure: dict[str, frozenset[str]] = {}
        for ident in reversed(self.order):
            parts = self.dims[ident].parts
            self._closure[ident] = frozenset({ident}).union(*(self._closure[part] for part in parts))
        self._check_sizes()

    def within(self, ident: str) -> frozenset[str]:
        """Return the ids of a dim and of everything it is made of."""
        return self._closure[ident]

    def leaves(self, ident: str) -> list[str]:
        """Return the leaves that a dim is made of (itself, if it is one), in graph order."""
        found = [part for part in self._closure[ident] if not self.dims[part].parts]
        return sorted(found, key=self._number.__getitem__)

    def with_role(self, *roles: str) -> list[Dim]:
        """Return the dims that carry one of the roles, in graph order."""
        return [dim for dim in self.dims.values() if dim.role in roles]

    def products(self) -> Iterable[Dim]:
        """Return the product dims in graph order, the virtual ones last."""
        return (dim for dim in self.dims.values() if dim.kind == "product")

    def groups(self) -> list[tuple[Dim, Dim]]:
        """Return the distinct ``(kv_heads, group)`` pairs that stand in one product."""
        found: dict[tuple[str, str], tuple[Dim, Dim]] = {}
        for product in self.products():
            parts = [self.dims[part] for part in product.parts]
            kv = next((part for part in parts if part.role == Role.KV_HEADS), None)
            group = next((part for part in parts if part.role == Role.GROUP), None)
            if kv and group:
                found[kv.id, group.id] = (kv, group)
        return list(found.values())

    def _add_virtual_heads(self) -> list[str]:
        added: list[str] = []
        # A list, because the loop adds dims.
        for kv, group in list(self.groups()):
            pair = (kv.id, group.id)
            if not any(dim.parts == pair for dim in self.products()):
                ident = f"{kv.id}*{group.id}"
                size = kv.size * group.size
                self.dims[ident] = Dim(ident, "heads", size, "product", pair, Role.HEADS, None, kv.occurrences)
                added.append(ident)
        return added

    def _sorted(self) -> tuple[str, ...]:
        """Sort depth first with an own stack: nested concats can be deeper than Python's recursion limit."""
        done: dict[str, None] = {}
        for start in self.dims:
            path: list[tuple[str, bool]] = [(start, False)]
            open_ids: set[str] = set()
            while path:
                ident, leaving = path.pop()
                if leaving:
                    open_ids.discard(ident)
                    done[ident] = None
                elif ident not in done:
                    open_ids.add(ident)
                    path.append((ident, True))
                    for part in self.dims[ident].parts:
                        if part not in self.dims:
                            raise GraphError(f"dim {ident} has an unknown part {part}; the analysis is wrong.")
                        if part in open_ids:
                            raise GraphError(f"dim {part} is made of itself; the analysis of this graph is wrong.")
                        path.append((part, False))
        return tuple(reversed(done))

    def _owners(self) -> dict[str, tuple[str, ...]]:
        owners: dict[str, list[str]] = {ident: [] for ident in self.dims}
        for ident, dim in self.dims.items():
            for part in dict.fromkeys(dim.parts):
                owners[part].append(ident)
        return {ident: tuple(found) for ident, found in owners.items()}

    def _equals(self, pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
        equals: dict[str, list[str]] = {}
        for one, other in pairs:
            if self.dims[one].size != self.dims[other].size:
                raise GraphError(f"dims {one} and {other} must have one size; the analysis of this graph is wrong.")
            equals.setdefault(one, []).append(other)
            equals.setdefault(other, []).append(one)
        return {ident: tuple(found) for ident, found in equals.items()}

    def _check_sizes(self) -> None:
        sizes = {ident: dim.size for ident, dim in self.dims.items()}
        for dim in self.dims.values():
            if (dim.kind == "leaf") != (not dim.parts):
                raise GraphError(f"dim {dim.id} ({dim.name}) is a {dim.kind} with parts {dim.parts}.")
            if dim.parts and combine(dim, sizes) != dim.size:
                raise GraphError(
                    f"dim {dim.id} ({dim.name}) has size {dim.size}, its parts make {combine(dim, sizes)}."
                )

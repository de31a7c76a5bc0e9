"""Permuting: reorder indices so that neighbours are alike, without changing what the network computes.

A dim that the whole model shares (hidden) gets one order; a dim that lives inside a layer (neurons, heads, their
channels) gets one per layer. Only dims that shrink are reordered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bot_onnx._align.axes import LeafOrder, Orders, leaves_of, ordered
from bot_onnx._align.gram import has_pattern, leaf_rows, shares, sum_of_squares
from bot_onnx._align.heads import HeadGrams, order_heads
from bot_onnx._align.mobility import Mobility
from bot_onnx._align.pairing import similar_order
from bot_onnx._align.permutable_dims import Freedom
from bot_onnx._align.places import Array, Namespace, to_numpy
from bot_onnx._align.types import Aligned, Alignment, AnyArray, Kind, Progress, Tensors
from bot_onnx._structure import Role, Stack, Structure
from bot_onnx.errors import said

_INNER_ROLES = (Role.V_HEAD_DIM, Role.HEAD_DIM, Role.GROUP)


@dataclass(frozen=True, slots=True)
class HeadMove:
    """Heads of a chain to reorder: the outer leaf, and the leaves inside that may differ from head to head."""

    chain: str
    outer: str
    inner: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moves:
    """All that is to be reordered.

    Attributes:
        shared: leaves with one order for the model.
        layered: (chain, leaf) with one order per layer.
        heads: see :class:`HeadMove`.
        notes: what shrinks and cannot be reordered, and why.
    """

    shared: tuple[str, ...]
    layered: tuple[tuple[str, str], ...]
    heads: tuple[HeadMove, ...]
    notes: tuple[str, ...]


class Permutation(Alignment):
    """Reorder every dim that shrinks and may be reordered."""

    kind: Kind = "permute"

    def __init__(self, structure: Structure, sizes: Mapping[str, int], freedom: Freedom) -> None:
        self.structure = structure
        self._sizes = sizes
        self.moves = _Planner(structure, sizes, freedom).plan()
        self.notes = self.moves.notes

    def align(self, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Permuted:
        """Find the orders. Memory: one tensor and one Gram matrix (float32, n x n for a dim of n) at a time."""
        return _Finder(self.structure, self._sizes, self.moves, tensors, progress, xp).find()


class Permuted(Aligned):
    """The source's tensors in their new order; values and data types stay as they were."""

    def __init__(
        self, structure: Structure, tensors: Tensors, shared: Orders, layered: Mapping[str, Sequence[Orders]]
    ) -> None:
        self._structure, self._tensors = structure, tensors
        self.shared, self.layered = shared, layered
        self._places = {
            name: (stack, layer) for stack in structure.stacks for layer, name in enumerate(stack.tensors)
        }  # fmt: skip

    def read(self, name: str) -> AnyArray:
        """One tensor, its axes in their new order."""
        array = self._tensors[name].numpy()
        if name not in self._places:
            return array
        stack, layer = self._places[name]
        return ordered(self._structure, stack, array, self.orders(stack, layer))

    def whole_energy(self, name: str) -> float:
        """Sum of squares, which no order changes."""
        return sum_of_squares(self._tensors[name].numpy())

    def whole(self, name: str) -> AnyArray:
        """The tensor in its new order: nothing is cut off."""
        return self.read(name)

    def cut(self, name: str, axis: int, leaf: str) -> AnyArray | None:
        """Nothing."""
        return None

    def orders(self, stack: Stack, layer: int) -> Orders:
        """Order per leaf that holds in one tensor of a stack."""
        own = self.layered.get(stack.chain or "") if not stack.shared else None
        return {**self.shared, **own[layer]} if own else self.shared


class _Planner:
    """Decide from the structure alone what is reordered."""

    def __init__(self, structure: Structure, sizes: Mapping[str, int], freedom: Freedom) -> None:
        self._structure, self._mobile = structure, Mobility(structure, sizes, freedom)

    def plan(self) -> Moves:
        notes: list[str] = []
        free: list[str] = []
        for dim in self._structure.dims.values():
            if dim.kind != "leaf" or not self._mobile.carriers.get(dim.id):
                continue
            reason = self._mobile.bound(dim.id)
            if reason is None:
                free.append(dim.id)
            elif self._mobile.shrinks(dim.id) and dim.role not in (Role.VOCAB, Role.POSITIONS):
                notes.append(f"{dim.name} keeps its order: {said(reason)}")
        heads = tuple(self._head_moves(free))
        moved = {leaf for move in heads for leaf in (move.outer, *move.inner)}
        rest = [leaf for leaf in free if self._mobile.shrinks(leaf) and leaf not in moved]
        return Moves(
            shared=tuple(leaf for leaf in rest if self._mobile.home(leaf) is None),
            layered=tuple((home, leaf) for leaf in rest if (home := self._mobile.home(leaf)) is not None),
            heads=heads,
            notes=tuple(notes),
        )

    def _head_moves(self, free: list[str]) -> Iterator[HeadMove]:
        roles = {leaf: self._structure.dims[leaf].role for leaf in free}
        for outer in self._structure.dims.values():
            home = self._mobile.home(outer.id) if outer.id in self._mobile.carriers and outer.kind == "leaf" else None
            if home is None or outer.role not in (Role.HEADS, Role.KV_HEADS):
                continue
            inner = tuple(
                leaf
                for role in _INNER_ROLES
                for leaf in free
                if roles[leaf] == role and self._mobile.home(leaf) == home and self._mobile.lies_within(leaf, outer.id)
            )
            reorder = outer.id in roles and self._mobile.shrinks(outer.id)
            if reorder or any(self._mobile.shrinks(leaf) for leaf in inner):
                yield HeadMove(home, outer.id, inner)


class _Finder:
    """Read the weights and find the orders."""

    def __init__(
        self,
        structure: Structure,
        sizes: Mapping[str, int],
        moves: Moves,
        tensors: Tensors,
        progress: Progress | None,
        xp: Namespace,
    ) -> None:
        self._structure, self._sizes, self._moves, self._tensors = structure, sizes, moves, tensors
        self._progress, self._xp = progress, xp
        layers = {chain.name: chain.stacked for chain in structure.chains}
        self._layers = layers
        self._steps = len(moves.shared) + sum(layers[c] for c, _ in moves.layered)
        self._steps += sum(layers[move.chain] for move in moves.heads)
        self._done = 0

    def find(self) -> Permuted:
        shared: dict[str, LeafOrder] = {}
        for leaf in self._moves.shared:
            stacks = [(stack, name) for stack in self._carriers(leaf) for name in stack.tensors]
            shared[leaf] = LeafOrder(similar_order(self._gram(stacks, (leaf,)), self._xp))
            self._step(leaf)
        chains = {chain for chain, _ in self._moves.layered} | {move.chain for move in self._moves.heads}
        layered: dict[str, list[dict[str, LeafOrder]]] = {
            chain: [{} for _ in range(self._layers[chain])] for chain in sorted(chains)
        }
        for chain, leaf in self._moves.layered:
            for layer, orders in enumerate(layered[chain]):
                stacks = [(stack, stack.tensors[layer]) for stack in self._carriers(leaf)]
                orders[leaf] = LeafOrder(similar_order(self._gram(stacks, (leaf,)), self._xp))
                self._step(leaf)
        for move in self._moves.heads:
            for layer, orders in enumerate(layered[move.chain]):
                orders.update(self._heads(move, layer))
                self._step(move.outer)
        return Permuted(self._structure, self._tensors, shared, layered)

    def _step(self, leaf: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(f"aligning {self._structure.dims[leaf].name}", self._done, self._steps)

    def _carriers(self, leaf: str) -> list[Stack]:
        """Stacks that say which indices of a leaf are alike; copies of another one say nothing new."""
        found = [
            stack
            for stack in self._structure.stacks
            if stack.twin_of is None and any(leaf in leaves_of(self._structure, dim) for dim in stack.axes if dim)
        ]
        return [stack for stack in found if has_pattern(stack)] or found

    def _gram(
        self, tensors: list[tuple[Stack, str]], leaves: tuple[str, ...], without: frozenset[str] = frozenset()
    ) -> Array:
        size = 1
        for leaf in leaves:
            size *= self._structure.dims[leaf].size
        total = self._xp.zeros((size, size), dtype=self._xp.float32)
        for stack, name in tensors:
            for rows in leaf_rows(self._structure, stack, self._tensors[name].numpy(), leaves, without):
                total += shares(rows, self._xp)
        return total

    def _heads(self, move: HeadMove, layer: int) -> dict[str, LeafOrder]:
        stacks = [(stack, stack.tensors[layer]) for stack in self._carriers(move.outer)]
        count = self._structure.dims[move.outer].size
        inner: dict[str, AnyArray] = {}
        earlier: frozenset[str] = frozenset()
        for leaf in move.inner:
            size = self._structure.dims[leaf].size
            inner[leaf] = to_numpy(self._gram(stacks, (move.outer, leaf), earlier)).reshape(count, size, count, size)
            earlier |= {leaf}
        grams = HeadGrams(to_numpy(self._gram(stacks, (move.outer,), earlier)), inner)
        shrinking = frozenset(leaf for leaf in move.inner if self._shrinks(leaf))
        found = order_heads(grams, reorder=self._shrinks(move.outer), shrinking=shrinking)
        orders = {leaf: LeafOrder(table, move.outer) for leaf, table in found.inner.items()}
        if found.heads is not None:
            orders[move.outer] = LeafOrder(found.heads)
        return orders

    def _shrinks(self, leaf: str) -> bool:
        return self._sizes.get(leaf, self._structure.dims[leaf].size) < self._structure.dims[leaf].size

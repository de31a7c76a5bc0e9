"""Where the indices of a leaf stand along composite axes, and how a new order of leaves orders those axes.

An axis may be a product (mixed radix) or a concat of parts, nested; a leaf is ordered within it without touching the
rest. An order may depend on an outer leaf: the value channels of every head have an order of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from bot_onnx._structure import Role, Stack, Structure

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class LeafOrder:
    """Which source index stands at each place of a leaf.

    Attributes:
        table: ``[places]``, or ``[source size of given, places]``: one row per index of the outer leaf. Fewer places
            than source indices make it a selection.
        given: id of the outer leaf, or None.
    """

    table: Indices
    given: str | None = None

    @property
    def places(self) -> int:
        """Size of the leaf afterwards."""
        return int(self.table.shape[-1])


Orders = Mapping[str, LeafOrder]


def leaves_of(structure: Structure, dim: str) -> list[str]:
    """Ids of the leaves below a dim in order, repeated where they occur more than once."""
    parts = structure.dims[dim].parts
    return [leaf for part in parts for leaf in leaves_of(structure, part)] if parts else [dim]


def axis_order(structure: Structure, dim: str, orders: Orders) -> Indices | None:
    """Source index at every place of an axis, or None where nothing changes.

    Raises:
        KeyError: an order depends on a leaf that does not stand before its own leaf in this axis.
    """
    if not set(orders).intersection(leaves_of(structure, dim)):
        return None
    index, _ = _expand(structure, dim, orders, {}, 1)
    flat: Indices = index.ravel()
    return flat


def _expand(
    structure: Structure, identity: str, orders: Orders, known: Mapping[str, Indices], rows: int
) -> tuple[Indices, dict[str, Indices]]:
    """Source indices ``[rows, places]`` of a dim, and those of the leaves passed so far, ``[rows * places]`` each.

    ``known`` gives the source index of the outer leaves in every row.
    """
    dim = structure.dims[identity]
    if dim.kind == "product":
        index = np.zeros((rows, 1), dtype=np.intp)
        passed = dict(known)
        for part in dim.parts:
            inner, passed = _expand(structure, part, orders, passed, index.size)
            index = (index.reshape(-1, 1) * structure.dims[part].size + inner).reshape(rows, -1)
        return index, passed
    if dim.kind == "concat":
        pieces, offset = [], 0
        for part in dim.parts:
            inner, _ = _expand(structure, part, orders, known, rows)
            pieces.append(inner + offset)
            offset += structure.dims[part].size
        index = np.concatenate(pieces, axis=1)
        return index, _repeated(known, index.shape[1])
    order = orders.get(identity)
    if order is None:
        index = np.broadcast_to(np.arange(dim.size), (rows, dim.size))
    elif order.given is None:
        index = np.broadcast_to(order.table, (rows, order.places))
    else:
        index = order.table[known[order.given]]
    return index, {**_repeated(known, index.shape[1]), identity: index.ravel()}


def _repeated(known: Mapping[str, Indices], times: int) -> dict[str, Indices]:
    return {leaf: np.repeat(values, times) for leaf, values in known.items()}


def ordered(structure: Structure, stack: Stack, array: NDArray[np.generic], orders: Orders) -> NDArray[np.generic]:
    """A tensor of ``stack`` with its axes in the given orders."""
    for axis, dim in enumerate(stack.axes):
        index = axis_order(structure, dim, orders) if dim is not None else None
        if index is not None:
            array = np.take(array, index, axis=axis)
    return array


def positions(
    structure: Structure, dim: str, leaves: tuple[str, ...], without: frozenset[str] = frozenset()
) -> Iterator[Indices]:
    """Places along an axis that the indices of ``leaves`` hold, once per part of a concat in which they all occur.

    Parts that carry a leaf of ``without`` are passed over.

    Yields:
        ``[n, rest]``: row i holds the places of index i; several leaves count as one, the first slowest.
    """
    total = prod(structure.dims[leaf].size for leaf in leaves)
    for places, coordinates in _runs(structure, dim):
        if set(leaves) <= set(coordinates) and not without.intersection(coordinates):
            yield places[np.argsort(_key(structure, coordinates, leaves), kind="stable")].reshape(total, -1)


def indices(structure: Structure, dims: Sequence[str], leaves: tuple[str, ...]) -> Indices:
    """Which index of ``leaves`` stands at every place of some axes taken together, the last axis fastest.

    Returns:
        ``[places]``; several leaves count as one, the first slowest. -1 where they do not all occur.
    """
    found = np.full(prod(structure.dims[dim].size for dim in dims), -1, dtype=np.intp)
    for places, coordinates in _product_runs(structure, dims):
        if set(leaves) <= set(coordinates):
            found[places] = _key(structure, coordinates, leaves)
    return found


def _key(structure: Structure, coordinates: Mapping[str, Indices], leaves: tuple[str, ...]) -> Indices:
    """The indices of several leaves as one, the first slowest."""
    key = np.zeros((), dtype=np.intp)
    for leaf in leaves:
        key = key * structure.dims[leaf].size + coordinates[leaf]
    return key


def _runs(structure: Structure, identity: str) -> list[tuple[Indices, dict[str, Indices]]]:
    """(places, index of every leaf at these places) for each combination of concat parts."""
    dim = structure.dims[identity]
    if dim.kind == "leaf":
        return [(np.arange(dim.size), {identity: np.arange(dim.size)})]
    if dim.kind == "concat":
        runs, offset = [], 0
        for part in dim.parts:
            runs += [(places + offset, coordinates) for places, coordinates in _runs(structure, part)]
            offset += structure.dims[part].size
        return runs
    return _product_runs(structure, dim.parts)


def _product_runs(structure: Structure, parts: Sequence[str]) -> list[tuple[Indices, dict[str, Indices]]]:
    """The runs of a product of dims, the first slowest."""
    runs: list[tuple[Indices, dict[str, Indices]]] = [(np.zeros(1, dtype=np.intp), {})]
    for part in parts:
        size = structure.dims[part].size
        runs = [
            (
                (outer[:, None] * size + inner[None, :]).ravel(),
                {**_repeated(left, len(inner)), **{leaf: np.tile(c, len(outer)) for leaf, c in right.items()}},
            )
            for outer, left in runs
            for inner, right in _runs(structure, part)
        ]
    return runs


def outer_leaves(structure: Structure, dim: str, leaf: str) -> list[set[str]]:
    """For every occurrence of ``leaf`` below a dim: the leaves that stand before it in the products around it."""
    found: list[set[str]] = []

    def walk(identity: str, before: set[str]) -> None:
        entry = structure.dims[identity]
        if not entry.parts:
            if identity == leaf:
                found.append(set(before))
            return
        passed = set(before)
        for part in entry.parts:
            walk(part, passed)
            if entry.kind == "product" and structure.dims[part].kind != "concat":
                passed |= set(leaves_of(structure, part))

    walk(dim, set())
    return found


def ranges(structure: Structure, *dims: str) -> list[slice]:
    """The pieces of an axis that hold different things: parts of a concat, or of a number of equal parts (qkv).

    Several axes are taken together, the last fastest.
    """
    entry = structure.dims[dims[0]]
    behind = prod(structure.dims[dim].size for dim in dims[1:])
    outermost = entry
    while outermost.kind == "product":
        outermost = structure.dims[outermost.parts[0]]
    leaves = [structure.dims[leaf] for leaf in leaves_of(structure, outermost.id)]
    parted = outermost is not entry or len(dims) > 1
    if parted and all(leaf.role == Role.COUNT or leaf.size == 1 for leaf in leaves):
        sizes = [entry.size // outermost.size] * outermost.size
    elif entry.kind == "concat":
        sizes = [structure.dims[part].size for part in entry.parts]
    else:
        sizes = [entry.size]
    return [slice(start, stop) for start, stop in pairwise(accumulate((n * behind for n in sizes), initial=0))]


def resized(structure: Structure, sizes: Mapping[str, int]) -> Structure:
    """The structure with some leaves at other sizes; composite dims and the stacks' shapes follow."""
    found: dict[str, int] = {}

    def size(identity: str) -> int:
        if identity not in found:
            dim = structure.dims[identity]
            combine = prod if dim.kind == "product" else sum
            found[identity] = combine(map(size, dim.parts)) if dim.parts else sizes.get(identity, dim.size)
        return found[identity]

    dims = {identity: replace(dim, size=size(identity)) for identity, dim in structure.dims.items()}
    stacks = tuple(
        replace(stack, shape=tuple(1 if dim is None else size(dim) for dim in stack.axes)) for stack in structure.stacks
    )
    return replace(structure, dims=dims, stacks=stacks)

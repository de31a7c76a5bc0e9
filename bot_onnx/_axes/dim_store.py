"""The store of all dims of a graph: what each of them is, and how new ones are made.

Sizes are pairs, one per observed run: a dim whose two sizes differ is a runtime dim (batch, sequence). An axis of size
1 has no dim (``None``): it broadcasts against anything and never merges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bot_onnx._reasons import Reason, Why

Pair = tuple[int, int]
Dim = int
MaybeDim = int | None


EQUAL_PARTS = Reason(Why.EQUAL_PARTS)
#: Why a dim is frozen until the roles say that it may follow.
INPUT = Reason(Why.INPUT)


@dataclass(frozen=True, slots=True)
class Composite:
    """Structure of a dim that is no leaf."""

    kind: Literal["product", "concat"]
    parts: tuple[Dim, ...]


def times(sizes: Iterable[Pair]) -> Pair:
    """Product of size pairs, run by run."""
    first, second = 1, 1
    for a, b in sizes:
        first, second = first * a, second * b
    return first, second


def quotient(size: Pair, divisor: Pair) -> Pair | None:
    """``size / divisor`` run by run, or None where it is not whole."""
    if not divisor[0] or not divisor[1] or size[0] % divisor[0] or size[1] % divisor[1]:
        return None
    return size[0] // divisor[0], size[1] // divisor[1]


class DimStore:
    """All dims of a graph. Dims are small integers; :meth:`find` gives the representative of a class.

    The one thing that passes of the analysis change together, each by what its declaration allows it. Merging is
    monotone: what is one dim stays one, a leaf may become a composite but never a leaf again, what is frozen stays so
    with the first reason, and only :data:`INPUT` is ever taken back.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[Pair] = []
        self._composite: dict[Dim, Composite] = {}
        self._frozen: dict[Dim, Reason] = {}
        self._groups: dict[tuple[Dim, ...], Dim] = {}
        #: Pairs of dims that have the same size, but not the same order of indices: no common refinement is sought.
        self.equal_sizes: list[tuple[Dim, Dim]] = []
        #: Concats, and the products that they are read as though their parts end elsewhere: see :meth:`DimTable.deal`.
        self.dealt: list[tuple[Dim, Dim]] = []
        #: Concats of which a mean, or another statistic, is taken as of one axis.
        self.joint: list[Dim] = []

    # -- reading -----------------------------------------------------------------------------------------------

    def find(self, dim: Dim) -> Dim:
        """Representative of the class of ``dim``."""
        parent = self._parent
        while parent[dim] != dim:
            parent[dim] = parent[parent[dim]]
            dim = parent[dim]
        return dim

    def size(self, dim: MaybeDim) -> Pair:
        """Size pair; (1, 1) for the missing dim of a unit axis."""
        return (1, 1) if dim is None else self._size[self.find(dim)]

    def composite(self, dim: Dim) -> Composite | None:
        """Structure with representatives as parts, or None for a leaf."""
        composite = self._composite.get(self.find(dim))
        if composite is None:
            return None
        return Composite(composite.kind, tuple(self.find(part) for part in composite.parts))

    def frozen(self, dim: Dim) -> Reason | None:
        """Why the dim cannot be resized, or None if it can."""
        return self._frozen.get(self.find(dim))

    def is_static(self, dim: Dim) -> bool:
        """Whether both runs saw the same size."""
        first, second = self.size(dim)
        return first == second

    def leaves(self, dim: Dim) -> list[Dim]:
        """Leaves below ``dim`` in order, repeated where they occur more than once."""
        composite = self.composite(dim)
        if composite is None:
            return [self.find(dim)]
        return [leaf for part in composite.parts for leaf in self.leaves(part)]

    # -- making ------------------------------------------------------------------------------------------------

    def leaf(self, size: Pair) -> MaybeDim:
        """A new leaf; None where the size is 1 in both runs."""
        if size == (1, 1):
            return None
        self._parent.append(len(self._parent))
        self._size.append(size)
        return len(self._parent) - 1

    def part(self, size: int) -> Dim:
        """A static leaf of any size: a part of a concat is a dim even when it has one element."""
        self._parent.append(len(self._parent))
        self._size.append((size, size))
        return len(self._parent) - 1

    def product(self, parts: Sequence[MaybeDim]) -> MaybeDim:
        """The product of ``parts`` (nested products are flattened, unit parts dropped)."""
        flat: list[Dim] = []
        for part in parts:
            if part is None or self.size(part) == (1, 1):
                continue
            composite = self.composite(part)
            if composite is not None and composite.kind == "product":
                flat.extend(composite.parts)
            else:
                flat.append(self.find(part))
        if len(flat) < 2:
            return flat[0] if flat else None
        return self._group("product", flat, times(self.size(p) for p in flat))

    def concat(self, parts: Sequence[Dim]) -> Dim:
        """The concatenation of ``parts``; one part is itself."""
        if len(parts) == 1:
            return parts[0]
        found = [self.find(part) for part in parts]
        total = (sum(self.size(p)[0] for p in found), sum(self.size(p)[1] for p in found))
        dim = self._group("concat", found, total)
        assert dim is not None
        return dim

    def _group(self, kind: Literal["product", "concat"], parts: list[Dim], size: Pair) -> MaybeDim:
        key = (0 if kind == "product" else 1, *parts)
        if key in self._groups:
            return self.find(self._groups[key])
        dim = self.leaf(size)
        if dim is not None:
            self._composite[dim] = Composite(kind, tuple(parts))
            self._groups[key] = dim
        return dim

    def freeze(self, dim: MaybeDim, reason: Reason) -> None:
        """Say that ``dim`` must keep its size, and every leaf below it.

        The first reason stays; but any other takes the place of :data:`INPUT`, which alone can be taken back.
        """
        if dim is None:
            return
        dim = self.find(dim)
        held = self._held(dim)
        if not held:
            self._frozen[dim] = reason
        composite = self._composite.get(dim)
        for part in composite.parts if composite else ():
            if not (held and self._held(self.find(part))):  # what lies below a held dim is held already
                self.freeze(part, reason)

    def _held(self, root: Dim) -> bool:
        """Whether a dim is frozen for good."""
        return self._frozen.get(root, INPUT) != INPUT

    def release(self, leaves: Collection[Dim]) -> None:
        """Unfreeze leaves (and what is made of them) that are frozen for no other reason than :data:`INPUT`."""
        released = {self.find(leaf) for leaf in leaves if self.frozen(leaf) == INPUT}
        for dim, reason in list(self._frozen.items()):
            if reason == INPUT and released.intersection(self.leaves(dim)):
                del self._frozen[dim]

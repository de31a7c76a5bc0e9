"""The axis algebra: a union-find of dims with products and concatenations.

Every axis of every tensor points at a dim. A dim is a *leaf*, an ordered *product* (mixed radix, the first part varies
slowest: 768 = 12 heads x 64) or an ordered *concat* (2304 = q + k + v). Merging two dims says that they have the same
size **and** the same index order; it merges their structure too, by common refinement. Two dims never merge because
their sizes happen to be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bot_onnx._axes.dim_store import EQUAL_PARTS, INPUT, Composite, Dim, DimStore, MaybeDim, Pair, quotient, times
from bot_onnx._reasons import Reason, Why

__all__ = ["EQUAL_PARTS", "INPUT", "Composite", "Dim", "DimTable", "MaybeDim", "Pair", "quotient", "times"]


class DimTable(DimStore):
    """All dims of a graph, with what merges and divides them."""

    # -- merging -----------------------------------------------------------------------------------------------

    def unify(self, a: MaybeDim, b: MaybeDim) -> MaybeDim:
        """Merge two dims: same size, same index order. Unit axes merge with nothing.

        Dims of different sizes, or of structures with no common refinement, are frozen instead: the graph then still
        rebuilds at another depth, and a width that depends on them is refused by name.
        """
        if a is None or b is None:
            return a if b is None else b
        a, b = self.find(a), self.find(b)
        if a == b:
            return a
        if self.size(a) != self.size(b):
            reason = Reason(Why.SIZES_DIFFER)
            self.freeze(a, reason)
            self.freeze(b, reason)
            return a
        left, right = self.composite(a), self.composite(b)
        if left is not None and right is not None and not self._refine(a, left, b, right):
            reason = Reason(Why.SPLITS_DIFFER)
            self.freeze(a, reason)
            self.freeze(b, reason)
            return a
        a, b = self.find(a), self.find(b)
        if a != b:
            self._link(a, b)
        return self.find(a)

    def _link(self, a: Dim, b: Dim) -> None:
        keep, drop = (a, b) if a in self._composite or b not in self._composite else (b, a)
        self._parent[drop] = keep
        self._composite.pop(drop, None)
        if drop in self._frozen:
            self.freeze(keep, self._frozen.pop(drop))
        elif keep in self._frozen:
            self.freeze(keep, self._frozen[keep])

    def _refine(self, a: Dim, left: Composite, b: Dim, right: Composite) -> bool:
        if left.kind == right.kind == "product":
            return self._refine_products(a, b)
        if left.kind == right.kind == "concat":
            return self._refine_concats(a, left, right)
        if left.kind == "product":
            return self._refine(b, right, a, left)
        return self._concat_with_product(left, b)

    def _refine_products(self, a: Dim, b: Dim) -> bool:
        ours, theirs = list(self._flat(a)), list(self._flat(b))
        while ours and theirs:
            x, y = ours.pop(), theirs.pop()
            if self.size(x) == self.size(y):
                self.unify(x, y)
                continue
            swapped = quotient(self.size(x), self.size(y)) is None
            if swapped:
                x, y, ours, theirs = y, x, theirs, ours
            pieces = self.split(x, self.size(y))
            if pieces is None:
                return False
            self.unify(pieces[1], y)
            if pieces[0] is not None:
                ours.append(pieces[0])
            if swapped:
                ours, theirs = theirs, ours
        return not ours and not theirs

    def _flat(self, dim: Dim) -> tuple[Dim, ...]:
        composite = self.composite(dim)
        if composite is None or composite.kind != "product":
            return (self.find(dim),)
        return tuple(leaf for part in composite.parts for leaf in self._flat(part))

    def _refine_concats(self, a: Dim, left: Composite, right: Composite) -> bool:
        offsets = sorted({*_offsets(self, left.parts), *_offsets(self, right.parts)})
        ours = self._cut_parts(left.parts, offsets)
        theirs = self._cut_parts(right.parts, offsets)
        if ours is None or theirs is None or len(ours) != len(theirs):
            return False
        for x, y in zip(ours, theirs, strict=True):
            self.unify(x, y)
        return True

    def _concat_with_product(self, parts: Composite, product: Dim) -> bool:
        """A concat meets a product: equal parts become one dim, else all parts share the product's right factor."""
        sizes = {self.size(part) for part in parts.parts}
        factors = self._flat(product)
        if len(sizes) == 1:
            pieces = self.split(product, next(iter(sizes)))
            if pieces is not None and pieces[1] is not None:
                self.freeze(pieces[0], EQUAL_PARTS)
                for part in parts.parts:
                    self.unify(part, pieces[1])
                return True
        right = factors[-1]
        halves = [self.split(part, self.size(right)) for part in parts.parts]
        if any(half is None for half in halves):
            return False
        for half in halves:
            assert half is not None
            self.unify(half[1], right)
        if any(half is None or half[0] is None for half in halves):
            # Some parts are one right factor, others several (gates cut as 1 + 1 + 2): numbers of equal parts.
            for left in [*factors[:-1], *(half[0] for half in halves if half is not None)]:
                self.freeze(left, EQUAL_PARTS)
            return True
        lefts = self.concat([half[0] for half in halves if half is not None and half[0] is not None])
        rest = self.product(factors[:-1])
        self.unify(lefts, rest)
        return True

    # -- splitting ---------------------------------------------------------------------------------------------

    def split(self, dim: Dim, right: Pair) -> tuple[MaybeDim, MaybeDim] | None:
        """Split ``dim`` as left x right, ``right`` being the size of the fast part; None if that is impossible.

        A leaf becomes a product of two new leaves for all who share it.
        """
        dim = self.find(dim)
        size = self.size(dim)
        left = quotient(size, right)
        if left is None:
            return None
        if left == (1, 1):
            return None, dim
        if right == (1, 1):
            return dim, None
        composite = self.composite(dim)
        if composite is None:
            parts = self.leaf(left), self.leaf(right)
            assert parts[0] is not None and parts[1] is not None
            self._composite[dim] = Composite("product", (parts[0], parts[1]))
            if dim in self._frozen:
                self.freeze(dim, self._frozen[dim])
            return parts
        if composite.kind == "product":
            return self._split_product(composite.parts, right)
        return self._split_concat(composite.parts, right)

    def _split_product(self, parts: tuple[Dim, ...], right: Pair) -> tuple[MaybeDim, MaybeDim] | None:
        fast: list[MaybeDim] = []
        need = right
        for index in range(len(parts) - 1, -1, -1):
            if need == (1, 1):
                return self.product(parts[: index + 1]), self.product(fast)
            rest = quotient(need, self.size(parts[index]))
            if rest is not None:
                fast.insert(0, parts[index])
                need = rest
                continue
            pieces = self.split(parts[index], need)
            if pieces is None:
                return None
            return self.product([*parts[:index], pieces[0]]), self.product([pieces[1], *fast])
        return None

    def _split_concat(self, parts: tuple[Dim, ...], right: Pair) -> tuple[MaybeDim, MaybeDim] | None:
        sizes = {self.size(part) for part in parts}
        if sizes == {right}:
            first = parts[0]
            for part in parts[1:]:
                self.unify(first, part)
            return self._count(len(parts)), self.find(first)
        halves = [self.split(part, right) for part in parts]
        if any(half is None or half[0] is None for half in halves):
            return None
        lefts = [half[0] for half in halves if half is not None]
        fast: MaybeDim = None
        for half in halves:
            assert half is not None
            fast = self.unify(fast, half[1])
        return self.concat([left for left in lefts if left is not None]), fast

    def deal(self, dim: Dim, right: Pair) -> tuple[Dim, Dim] | None:
        """Read a concat as left x right where the parts of the product end within those of the concat, else None.

        Only the sizes are so: the fast part is a number, along which nothing has an order. Joined again, as
        ``product`` of both, they are ``dim``.
        """
        dim = self.find(dim)
        composite, left = self.composite(dim), quotient(self.size(dim), right)
        if composite is None or composite.kind != "concat" or left is None or not self.is_static(dim):
            return None
        parts = self._count(left[0]), self.part(right[0])
        product = self.product(parts)
        if product is None or (1, 1) in (left, right):
            return None
        self._groups[0, *parts] = dim
        self.dealt.append((dim, product))
        return parts

    def cut(self, dim: Dim, offsets: Sequence[int]) -> list[Dim] | None:
        """Cut a static dim at increasing inner ``offsets`` into consecutive parts; None if that is impossible.

        A part may have size 1; as a part of a concat it is still a dim.
        """
        dim = self.find(dim)
        size = self.size(dim)[0]
        inner = [offset for offset in offsets if 0 < offset < size]
        if not inner:
            return [dim]
        bounds = [0, *inner, size]
        composite = self.composite(dim)
        if composite is None and len(inner) == size - 1:  # single elements: a number of things, not a concat
            self.freeze(dim, EQUAL_PARTS)
            return [self.part(1) for _ in range(size)]
        if composite is None:
            parts = [self.part(stop - start) for start, stop in pairwise(bounds)]
            self._composite[dim] = Composite("concat", tuple(parts))
            if dim in self._frozen:
                self.freeze(dim, self._frozen[dim])
            return parts
        if composite.kind == "concat":
            refined = self._cut_parts(composite.parts, inner)
            return None if refined is None else self._grouped(refined, bounds)
        return self._cut_shuffled(dim, bounds) or self._cut_product(composite.parts, inner)

    def _count(self, number: int) -> Dim:
        dim = self.part(number)
        self.freeze(dim, EQUAL_PARTS)
        return dim

    def _cut_shuffled(self, dim: Dim, bounds: Sequence[int]) -> list[Dim] | None:
        """Cut an axis in which equal parts were interleaved (channels x parts: a channel shuffle), else None.

        A piece holds some channels of every part, in an order of its own; all that stays true is the sum of the sizes.
        """
        composite = self._composite[dim]
        leaves = [leaf for part in composite.parts[1:] for leaf in self.leaves(part)]
        if self.frozen(composite.parts[0]) or not all(self.frozen(leaf) == EQUAL_PARTS for leaf in leaves):
            return None
        known = next((other for own, other in self.equal_sizes if self.find(own) == dim), None)
        if known is not None:
            return self.cut(known, bounds[1:-1])
        pieces = [self.part(stop - start) for start, stop in pairwise(bounds)]
        self.equal_sizes.append((dim, self.concat(pieces)))
        return pieces

    def _cut_product(self, parts: tuple[Dim, ...], offsets: list[int]) -> list[Dim] | None:
        slow, rest = parts[0], self.product(parts[1:])
        assert rest is not None
        stride = self.size(rest)[0]
        if any(offset % stride for offset in offsets):
            return None
        steps = [offset // stride for offset in offsets]
        count = self.size(slow)[0]
        if steps == list(range(1, count)):  # one piece per index of the slow part: a number of equal things
            self.freeze(slow, EQUAL_PARTS)
            return [rest] * count
        pieces = self.cut(slow, steps)
        if pieces is None:
            return None
        return [piece for piece in (self.product([piece, rest]) for piece in pieces) if piece is not None]

    def _cut_parts(self, parts: Sequence[Dim], offsets: Sequence[int]) -> list[Dim] | None:
        """Refine consecutive ``parts`` so that every offset is a boundary."""
        result: list[Dim] = []
        start = 0
        for part in parts:
            stop = start + self.size(part)[0]
            pieces = self.cut(part, [offset - start for offset in offsets])
            if pieces is None:
                return None
            result.extend(pieces)
            start = stop
        return result

    def _grouped(self, parts: Sequence[Dim], bounds: Sequence[int]) -> list[Dim]:
        """Join consecutive refined ``parts`` into one dim per interval of ``bounds``."""
        groups: list[Dim] = []
        position, index = 0, 0
        for stop in bounds[1:]:
            members: list[Dim] = []
            while position < stop:
                members.append(parts[index])
                position += self.size(parts[index])[0]
                index += 1
            groups.append(self.concat(members))
        return groups


def _offsets(table: DimTable, parts: Sequence[Dim]) -> list[int]:
    offsets, total = [], 0
    for part in parts[:-1]:
        total += table.size(part)[0]
        offsets.append(total)
    return offsets

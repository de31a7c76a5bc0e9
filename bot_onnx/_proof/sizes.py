"""Sizes of the miniature: a few indices for every dim that can change, and how many times each of them grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from bot_onnx._structure import Dim, Role, Structure

_LOOKED_UP = (Role.POSITIONS, Role.VOCAB)  #: more rows are other rows, not copies
_FIXED = frozenset({Role.COUNT, Role.IO, Role.SPATIAL})
_LEAST = 4  #: indices, so that a norm over them has something to do
_MOST = 16
_RATIOS = (2, 3)


@dataclass(frozen=True, slots=True)
class SmallSizes:
    """Sizes of leaves by dim id.

    Attributes:
        small: of the miniature.
        grown: ids of the leaves that the plan changes, in order.
        planned: sizes that the plan's own ratios make of the small ones.
        places: number per changing leaf, odd or even: which of the two ratios it takes.
        shuffled: ids of leaves that the plan changes and whose order is not followed: of them nothing is a copy.
    """

    small: dict[str, int]
    grown: tuple[str, ...]
    planned: dict[str, int]
    shuffled: tuple[str, ...]
    places: Mapping[str, int]

    def ratios(self, turn: int = 0) -> dict[str, int]:
        """How many times each changing leaf grows: neighbours differently, so that it shows whose factor is seen."""
        return {ident: _RATIOS[(self.places[ident] + turn) % 2] for ident in self.grown}

    def large(self, ratios: Mapping[str, int]) -> dict[str, int]:
        """Sizes of the grown miniature."""
        return {ident: size * ratios.get(ident, 1) for ident, size in self.small.items()}


def small_sizes(
    structure: Structure, targets: Mapping[str, int], *, whole: bool = False, alike: bool = False
) -> SmallSizes:
    """Choose the sizes.

    Args:
        structure: the analysis.
        targets: size per dim id in the plan.
        whole: keep the source's own sizes.
        alike: dims that are equal in the source and in the plan are equal in the miniature, and grow alike: a graph may
            ask that of queries and values.
    """
    small: dict[str, int] = {}
    planned: dict[str, int] = {}
    grown: list[str] = []
    shuffled: list[str] = []
    tied = _of_equal_size(structure, structure.equal_sizes)
    together = parts_together(structure, targets)
    evenly = {ident for group in together for ident in group}
    dealt = _of_equal_size(structure, structure.dealt)
    by = _divisor(structure, targets, dealt)
    for dim in structure.dims.values():
        if dim.kind != "leaf" or _is_fixed(dim):
            continue
        target = targets[dim.id]
        if dim.role in _LOOKED_UP:
            small[dim.id] = planned[dim.id] = dim.size
        elif whole or dim.id in tied:
            small[dim.id], planned[dim.id] = dim.size, target
        elif dim.id in dealt:
            small[dim.id], planned[dim.id] = dim.size // by, target // by
        else:
            place = dim.size if alike else len(small)
            small[dim.id], planned[dim.id] = _small(dim, target, place)
        if dim.role not in _LOOKED_UP and (target != dim.size or dim.id in evenly):
            lost = dim.id in tied or dim.id in dealt - evenly
            (shuffled if lost else grown).append(dim.id)
    places = {ident: structure.dims[ident].size if alike else place for place, ident in enumerate(grown)}
    for group in together:
        places.update(dict.fromkeys(group, min(places[ident] for ident in group)))
    return SmallSizes(small, tuple(grown), planned, tuple(shuffled), places)


def _is_fixed(dim: Dim) -> bool:
    return dim.frozen is not None or dim.role in _FIXED


def _small(dim: Dim, target: int, place: int) -> tuple[int, int]:
    """A small size, and what the plan's ratio makes of it: whole where it can be."""
    least = _LEAST + place % 3
    if target == dim.size or target % dim.size == 0:
        size = min(dim.size, least)
        return size, size * (target // dim.size)
    step = dim.size // gcd(dim.size, target)
    if step <= _MOST:
        size = min(dim.size, step * -(-least // step))
        return size, size * target // dim.size
    size = min(dim.size, 2 * _LEAST)
    return size, max(1, round(size * target / dim.size))


def parts_together(structure: Structure, targets: Mapping[str, int]) -> list[set[str]]:
    """Leaves that must grow by one ratio for their copies to be copies: of parts that are normalised together.

    Args:
        structure: the analysis.
        targets: size per dim id in the plan.

    Returns:
        A set for all that hang together, where any of them changes. None for a concat with a part that cannot grow, or
        that grows along two leaves.
    """
    dims = structure.dims
    groups: list[set[str]] = []
    for concat in structure.together:
        products = [product for one, product in structure.dealt if one == concat]
        leaves = [_growing(structure, part, targets) for part in (*dims[concat].parts, *products)]
        found = {leaf for leaf in leaves if leaf is not None}
        if None not in leaves and any(targets[leaf] != dims[leaf].size for leaf in found):
            apart = [group for group in groups if group.isdisjoint(found)]
            groups = [*apart, found.union(*(group for group in groups if group not in apart))]
    return groups


def _growing(structure: Structure, part: str, targets: Mapping[str, int]) -> str | None:
    """The leaf of a dim that makes it larger: the one that changes, or the fastest of those that could."""
    dims = structure.dims
    leaves, free = [part], []
    while leaves:
        dim = dims[leaves.pop(0)]
        leaves = [*dim.parts, *leaves]
        if not dim.parts and not _is_fixed(dim) and dim.role not in _LOOKED_UP:
            free.append(dim.id)
    changing = [ident for ident in free if targets[ident] != dims[ident].size] or free[-1:]
    return changing[0] if len(changing) == 1 else None


def _divisor(structure: Structure, targets: Mapping[str, int], dealt: set[str]) -> int:
    """By what the leaves of axes that are dealt out to groups can be divided: all by one number, so that sizes fit."""
    free = [dim for ident in dealt if (dim := structure.dims[ident]).kind == "leaf" and not _is_fixed(dim)]
    whole = gcd(*(size for dim in free for size in (dim.size, targets[dim.id])))
    least = min((dim.size for dim in free), default=1)
    return max(n for n in range(1, max(1, whole) + 1) if n == 1 or (whole % n == 0 and least // n >= _RATIOS[0]))


def _of_equal_size(structure: Structure, pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Dims of axes that must be equally long without being the same, and their parts: their sizes hang together."""
    found: set[str] = set()
    pending: list[str] = [one for pair in pairs for one in pair]
    while pending:
        ident = pending.pop()
        parts: Sequence[str] = structure.dims[ident].parts
        found.add(ident)
        pending.extend(part for part in parts if part not in found)
    return found

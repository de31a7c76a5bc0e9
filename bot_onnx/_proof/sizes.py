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
    dealt = _dealt(structure, targets)
    small: dict[str, int] = {}
    planned: dict[str, int] = {}
    grown: list[str] = []
    shuffled: list[str] = []
    tied = _within(structure, structure.equal_sizes, structure.dealt_unevenly(targets))
    for dim in structure.dims.values():
        if dim.kind != "leaf" or dim.frozen is not None or dim.role in _FIXED:
            continue
        target = targets[dim.id]
        if dim.role in _LOOKED_UP:
            small[dim.id] = planned[dim.id] = dim.size
        elif whole or dim.id in tied:
            small[dim.id], planned[dim.id] = dim.size, target
        elif dim.id in dealt:
            small[dim.id], planned[dim.id] = dim.size // dealt[dim.id], target // dealt[dim.id]
        else:
            place = dim.size if alike else len(small)
            small[dim.id], planned[dim.id] = _small(dim, target, place)
        if target != dim.size and dim.role not in _LOOKED_UP:
            (shuffled if dim.id in tied else grown).append(dim.id)
    places = {ident: structure.dims[ident].size if alike else place for place, ident in enumerate(grown)}
    places.update(dict.fromkeys(places.keys() & dealt, 0))  # one ratio for all, or their groups hold other channels
    return SmallSizes(small, tuple(grown), planned, tuple(shuffled), places)


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


def _dealt(structure: Structure, targets: Mapping[str, int]) -> dict[str, int]:
    """By how much leaves of axes that are dealt out to groups can be divided: all by one number, so that sizes fit."""
    fixed = {dim.id for dim in structure.dims.values() if dim.frozen is not None or dim.role in _FIXED}
    idents = _within(structure, structure.dealt) - fixed
    free = [structure.dims[ident] for ident in idents if structure.dims[ident].kind == "leaf"]
    whole = gcd(*(size for dim in free for size in (dim.size, targets[dim.id])))
    least = min((dim.size for dim in free), default=1)
    divisors = [number for number in range(1, whole + 1) if whole % number == 0 and least // number >= _RATIOS[0]]
    return dict.fromkeys((dim.id for dim in free), max(divisors, default=1))


def _within(structure: Structure, *pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Dims of axes that must be equally long without being the same, and their parts: their sizes hang together."""
    found: set[str] = set()
    pending: list[str] = [one for some in pairs for pair in some for one in pair]
    while pending:
        ident = pending.pop()
        parts: Sequence[str] = structure.dims[ident].parts
        found.add(ident)
        pending.extend(part for part in parts if part not in found)
    return found

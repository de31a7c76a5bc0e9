"""Dims that belong together: a stage or block of a network, by the scopes in names, else by the place in the graph.

A dim lies where it is made: at the first stack whose output it is. Exporters leave the scope of a module in the names
of tensors or nodes (``layer2.0.conv1.weight``, ``/model.4/m.0/cv1/Conv``), which stacks are named by. A stage is what
stands up to the first number of such a scope (``layer2``, ``model.4``); a stage that holds most of the dims is split at
the next one. Where names say nothing (``conv2d_161.w_0``), stages are read from the widths along the graph: at every
dim, the lesser of the largest width until there and the largest from there on. Where that changes, a stage ends, so
that a narrow dim between wide ones (a squeeze, a bottleneck) stays with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Literal

from bot_onnx._structure import Dim, Role, Stack, Structure

FEW = 16  #: dims that are shown one by one
_MANY = 8  #: dims of one stage that may be split
#: Roles of dims that are no widths.
_NO_WIDTH = (Role.SPATIAL, Role.COUNT, Role.IO)
#: A scope, part by part.
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DimGroup:
    """Dims that belong together: ids in order, and whether a ``scope`` or the ``place`` says so."""

    name: str
    by: Literal["scope", "place"]
    dims: tuple[str, ...]


def dim_groups(structure: Structure) -> tuple[DimGroup, ...]:
    """The groups in graph order, every dim in one of them; none where dims are few, or groups would not be fewer."""
    if len(structure.dims) <= FEW:
        return ()
    places = _places(structure)
    for found in (_by_scope(structure, places), _by_place(structure, places)):
        if 1 < len(found) <= len(structure.dims) // 2:
            return found
    return ()


def _places(structure: Structure) -> dict[str, int]:
    """Index of the stack where each dim is made; parts that no tensor carries lie where the whole does."""
    places: dict[str, int] = {}
    for wanted in ("out", None):
        for number, stack in enumerate(structure.stacks):
            for ident, direction in zip(stack.axes, stack.directions, strict=True):
                if ident is not None and wanted in (direction, None):
                    places.setdefault(ident, number)
    for ident, dim in structure.dims.items():
        if ident in places:
            _place_parts(structure.dims, dim, places[ident], places)
    return {ident: places.get(ident, len(structure.stacks)) for ident in structure.dims}


def _place_parts(dims: Mapping[str, Dim], whole: Dim, place: int, places: dict[str, int]) -> None:
    for part in whole.parts:
        places.setdefault(part, place)
        _place_parts(dims, dims[part], place, places)


def _in_order(places: Mapping[str, int]) -> list[str]:
    return sorted(places, key=places.__getitem__)


# -- by scope ----------------------------------------------------------------------------------------------------------


def _by_scope(structure: Structure, places: Mapping[str, int]) -> tuple[DimGroup, ...]:
    """Groups by the stages in names; none where names hold no scopes."""
    paths = [scope_of(stack) for stack in structure.stacks]
    shared = _shared(paths)
    owned = {ident: paths[number][shared:] if number < len(paths) else () for ident, number in places.items()}
    keys = {ident: _stage(path, 1) for ident, path in owned.items()}
    inside = sum(len(owned[ident]) > len(key) for ident, key in keys.items())
    if inside * 2 < len(keys):
        return ()
    largest = max(set(keys.values()), key=list(keys.values()).count)
    if list(keys.values()).count(largest) > max(len(keys) // 2, _MANY):
        keys = {ident: _stage(owned[ident], 2) if key == largest else key for ident, key in keys.items()}
    grouped: dict[Path, list[str]] = {}
    for ident in _in_order(places):
        grouped.setdefault(keys[ident], []).append(ident)
    names = _short_names(list(grouped))
    return tuple(DimGroup(names[key], "scope", tuple(members)) for key, members in grouped.items())


def scope_of(stack: Stack) -> Path:
    """The parts of the scope that a stack is named by, without the parameter or op at its end.

    A part that ends in a number parts at ``_`` (``stage1_unit2_conv``). What stands there twice in a row stands there
    once: some exporters name a module by its whole path inside its parent (``/blocks/blocks.1/blocks.1.0``).
    """
    parts: list[str] = []
    for word in re.split(r"[./]", stack.name):
        while (cut := re.match(r"([A-Za-z]\w*?\d)_(?=[A-Za-z0-9])", word)) is not None:
            parts.append(cut[1])
            word = word[cut.end() :]
        if word:
            parts.append(word)
    return _said_once(parts)[:-1]


def _said_once(parts: Sequence[str]) -> Path:
    left = list(parts)
    start = 0
    while start < len(left):
        lengths = range(1, (len(left) - start) // 2 + 1)
        twice = (n for n in lengths if left[start : start + n] == left[start + n : start + 2 * n])
        length = next(twice, None) if not left[start].isdigit() else None
        if length is None:
            start += 1
        else:
            del left[start : start + length]
    return tuple(left)


def _shared(paths: Sequence[Path]) -> int:
    """How many parts all the paths begin with, the last part of none of them among these."""
    found = [path for path in paths if path]
    if not found:
        return 0
    least, most = min(found), max(found)
    limit = min(len(path) for path in found) - 1
    return next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b or i >= limit), max(limit, 0))


def _stage(path: Path, numbers: int) -> Path:
    """The path up to its number of that count; one with fewer numbers ends at the first, else before its module."""
    ends = [i + 1 for i, part in enumerate(path) if part == "*" or part[-1].isdigit()]
    if ends:
        return path[: ends[min(numbers, len(ends)) - 1]]
    return path[:-1] or path


def _short_names(keys: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends that tell the paths apart, and that do not begin with a number."""
    names: dict[Path, str] = {}
    for key in keys:
        others = [other for other in keys if other != key]
        ends = (key[-n:] for n in range(1, len(key)))
        apart = (end for end in ends if not _bare(end[0]) and all(other[-len(end) :] != end for other in others))
        names[key] = ".".join(next(apart, key)) or "others"
    return names


def _bare(part: str) -> bool:
    return part == "*" or part.isdigit()


# -- by place ----------------------------------------------------------------------------------------------------------


def _by_place(structure: Structure, places: Mapping[str, int]) -> tuple[DimGroup, ...]:
    order = _in_order(places)
    widths = [_width(structure.dims[ident]) for ident in order]
    until = list(accumulate(widths, max))
    after = list(accumulate(reversed(widths), max))[::-1]
    levels = [min(pair) for pair in zip(until, after, strict=True)]
    for number in range(1, len(levels)):  # what has no width and comes last stays with what comes before
        levels[number] = levels[number] or levels[number - 1]
    numbered: dict[int, int] = {}
    for place, level in zip((places[ident] for ident in order), levels, strict=True):
        numbered[place] = max(level, numbered.get(place, 0))  # dims that one tensor makes stay together
    runs = groupby(order, key=lambda ident: numbered[places[ident]])
    return tuple(DimGroup(f"part {number}", "place", tuple(ids)) for number, (_, ids) in enumerate(runs, 1))


def _width(dim: Dim) -> int:
    return 0 if dim.parts or dim.role in _NO_WIDTH else dim.size


# -- texts -------------------------------------------------------------------------------------------------------------


def sizes(dims: Sequence[Dim]) -> str:
    """Each size with how often it is there, and the name where a role gives one: ``hidden 64, 128 x 3, 512``."""
    found: dict[str, int] = {}
    for dim in dims:
        text = str(dim.size) if re.fullmatch(r"dim_\d+(_\d+)?", dim.name) else f"{dim.name} {dim.size}"
        found[text] = found.get(text, 0) + 1
    return ", ".join(text if times == 1 else f"{text} x {times}" for text, times in found.items())


def ranges(idents: Sequence[str], order: Sequence[str]) -> str:
    """Ids in the order of all the dims, runs of more than two by their ends: ``d4 - d9, d12``."""
    return ", ".join(_runs(sorted(map(order.index, idents)), order))


def _runs(numbers: Sequence[int], order: Sequence[str]) -> Iterator[str]:
    for _, pairs in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [order[number] for _, number in pairs]
        yield f"{run[0]} - {run[-1]}" if len(run) > 2 else ", ".join(run)

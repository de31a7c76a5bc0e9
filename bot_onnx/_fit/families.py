"""Families of specs along one scale: every free size of a network as a multiple of the source's, rounded to what suits.

A scale from 0 to 1 gives a spec; larger scales give no smaller sizes. Sizes are multiples of 8 where the source's are,
and whole heads; what the solver does not admit is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bot_onnx._structure import SPEC_ROLES, Dim, Role, Structure
from bot_onnx._target import TargetSpec, solve
from bot_onnx._target.channels import SCALED_ROLES
from bot_onnx.errors import SpecError

UNIT = 8  #: channels that hardware likes to have whole multiples of
_LEVELS = 64  #: most sizes of the stream that are tried
_COUNTS = (Role.HEADS, Role.KV_HEADS)
_ROOM = 1.25  #: factor up to which single sizes make use of what a common scale has left over

Spec = dict[str, Any]
Fits = Callable[[Spec], bool]


class Family(Protocol):
    """Specs along a scale."""

    def spec(self, scale: float) -> Spec:
        """The spec at a scale from 0 (the smallest sizes) to 1 (the source's)."""

    def topped(self, spec: Spec, fits: Fits) -> Spec:
        """A spec that makes use of what one of a scale leaves over."""

    def wider(self, spec: Spec) -> Spec | None:
        """The next wider stream, with the least of all else; None where there is none."""


def family_of(structure: Structure, keep: Collection[str]) -> Family:
    """The family that suits a network.

    Args:
        structure: of the source.
        keep: role keys, names or ids of dims that stay as they are.

    Raises:
        SpecError: a name in ``keep`` is none.
    """
    keep = _with_roles(structure, keep)
    held = _held(structure, keep)
    main = next((role for role in (Role.HIDDEN, Role.HEADS) if role not in keep and _free(structure, role)), None)
    levels = () if main is None else _levels(structure, main, keep, held)
    roles = Roles(structure, held, main if len(levels) > 1 else None, levels, _inner(structure, keep))
    wide = Width(structure, held)
    if roles.main is None and roles.inner is None:
        return wide
    return roles if _with_role(structure, "heads") or _reaches_all(roles) else wide


def _reaches_all(roles: Roles) -> bool:
    """Whether every size that could change does: those of a convolutional network do not follow one stream."""
    structure = roles.structure
    try:
        sizes = solve(structure, TargetSpec.parse(roles.spec(0.0))).sizes
    except SpecError:
        return False
    return all(sizes[dim.id] != dim.size for dim in structure.dims.values() if _is_free(dim) and not dim.parts)


def _with_roles(structure: Structure, keep: Collection[str]) -> tuple[str, ...]:
    """What stays, dims that are all that a role's key would size by the role: a key and ``dims`` give no two sizes."""
    dims = _named(structure)
    held = {dims[name].id for name in keep if name in dims}
    found = {role: _with_role(structure, role) for role in SPEC_ROLES}
    meant = {role: {dim.id for dim in those if dim.size == those[0].size} for role, those in found.items()}
    roles = [role for role, idents in meant.items() if idents and idents <= held]
    return (*roles, *(name for name in keep if name not in dims or dims[name].role not in roles))


def _named(structure: Structure) -> dict[str, Dim]:
    """Dims by name and by id."""
    return {dim.name: dim for dim in structure.dims.values()} | structure.dims


def _held(structure: Structure, keep: Collection[str]) -> Spec:
    """The part of every spec that says what stays."""
    spec: Spec = {}
    dims = _named(structure)
    for name in keep:
        found = _with_role(structure, name) if name in SPEC_ROLES else [dims[name]] if name in dims else []
        if name != "layers" and not found:
            known = ", ".join(
                dict.fromkeys(["layers", *(dim.name for dim in structure.dims.values() if _is_free(dim))])
            )
            raise SpecError(f"--keep {name}: there is no such size; the graph has {known}")
        if name in SPEC_ROLES and name not in (Role.VOCAB, Role.POSITIONS):
            spec[name] = found[0].size
        elif name not in ("layers", *SPEC_ROLES):
            spec.setdefault("dims", {})[found[0].name] = found[0].size
    return spec


def _with_role(structure: Structure, role: str) -> list[Dim]:
    return [dim for dim in structure.dims.values() if dim.role == role]


def _is_free(dim: Dim) -> bool:
    return dim.frozen is None and dim.role in SCALED_ROLES


def _free(structure: Structure, role: str) -> bool:
    found = _with_role(structure, role)
    return bool(found) and all(dim.frozen is None for dim in found)


def unit_of(size: int) -> int:
    """What a size is a multiple of when it changes: 8 where it is now, else 1."""
    return UNIT if size % UNIT == 0 else 1


def _levels(structure: Structure, main: str, keep: Collection[str], held: Spec) -> tuple[int, ...]:
    """Sizes that the solver admits, up to the source's: whole heads where heads make up the stream."""
    size = _with_role(structure, main)[0].size
    heads, channels = _with_role(structure, "heads"), _with_role(structure, "head_dim")
    unit = 1 if main == Role.HEADS else unit_of(size)
    if main == Role.HIDDEN and heads:
        whole = heads[0].size if "heads" in keep else channels[0].size if channels else 1
        unit = whole if size % whole == 0 and not whole % unit else math.lcm(unit, whole)
    steps = list(range(unit, size, unit))
    thinned = steps[:: -(-len(steps) // _LEVELS)] if steps else []
    return tuple(level for level in [*thinned, size] if _admitted(structure, {**held, main: level}))


def _admitted(structure: Structure, spec: Spec) -> bool:
    try:
        solve(structure, TargetSpec.parse(spec))
    except SpecError:
        return False
    return True


def _inner(structure: Structure, keep: Collection[str]) -> tuple[int, int] | None:
    """Intermediate size of the source and what others are multiples of; None where it does not change."""
    found = _with_role(structure, "intermediate")
    if "intermediate" in keep or not _free(structure, "intermediate"):
        return None
    first = found[0].size
    unit = min(unit_of(dim.size) for dim in found)
    ratios = (first // math.gcd(first, dim.size) for dim in found)  # all of them keep their ratio to the first
    step = math.lcm(unit, *ratios)
    return (first, step) if step <= first else None


@dataclass(frozen=True, slots=True)
class Roles:
    """Transformers and their like: the stream (or the heads) and the intermediate size; the rest follows from them.

    Attributes:
        held: what every spec says.
        main: ``hidden``, ``heads``, or None where both stay. levels: its sizes, ascending.
        inner: intermediate size of the source, and the unit of others.
    """

    structure: Structure
    held: Mapping[str, Any]
    main: str | None
    levels: tuple[int, ...]
    inner: tuple[int, int] | None

    def spec(self, scale: float) -> Spec:
        """The largest sizes that are at most ``scale`` times the source's, or the smallest there are."""
        spec = dict(self.held)
        if self.main is not None:
            wanted = scale * self.levels[-1] * (1 + 1e-9)
            spec[self.main] = max((level for level in self.levels if level <= wanted), default=self.levels[0])
        if self.inner is not None:
            size, unit = self.inner
            spec["intermediate"] = max(unit, math.floor(scale * size / unit + 1e-9) * unit)
        return spec

    def topped(self, spec: Spec, fits: Fits) -> Spec:
        """A larger intermediate size, up to the source's."""
        if self.inner is None:
            return spec
        size, unit = self.inner
        found = largest(spec["intermediate"] // unit, size // unit, lambda n: fits({**spec, "intermediate": n * unit}))
        return {**spec, "intermediate": found * unit}

    def wider(self, spec: Spec) -> Spec | None:
        """The next level, with the smallest intermediate size."""
        if self.main is None or self.inner is None:
            return None
        wide = min((level for level in self.levels if level > spec[self.main]), default=None)
        return None if wide is None else {**spec, self.main: wide, "intermediate": self.inner[1]}


@dataclass(frozen=True, slots=True)
class Width:
    """All other networks: every free size times one factor, then dim by dim."""

    structure: Structure
    held: Mapping[str, Any]
    round_to: int = field(init=False)

    def __post_init__(self) -> None:
        sizes = [dim.size for dim in self.structure.dims.values() if _is_free(dim) and not dim.parts]
        even = sum(size % UNIT == 0 for size in sizes)
        object.__setattr__(self, "round_to", UNIT if 2 * even >= len(sizes) and even else 1)

    def spec(self, scale: float) -> Spec:
        """A factor, with what channels are rounded to."""
        return {**self.held, "width": max(round(scale, 4), 1e-4), "round_to": self.round_to}

    def topped(self, spec: Spec, fits: Fits) -> Spec:
        """The same sizes by name, each of them a little larger where there is room."""
        dims = self.structure.dims
        sizes = solve(self.structure, TargetSpec.parse(spec)).sizes
        changed = [d for d in dims.values() if _is_free(d) and not d.parts and sizes[d.id] != d.size]
        named: Spec = {**self.held, "dims": {**self.held.get("dims", {}), **{d.name: sizes[d.id] for d in changed}}}
        if not changed or not fits(named):
            return spec
        for dim in sorted(changed, key=lambda one: sizes[one.id]):
            named = self._raised(named, dim, fits)
        return named

    def wider(self, spec: Spec) -> Spec | None:
        """A factor has no next one."""
        return None

    def _raised(self, spec: Spec, dim: Dim, fits: Fits) -> Spec:
        """The spec with a larger size of one dim, where that fits."""
        unit = self.round_to if dim.size % self.round_to == 0 and dim.role not in _COUNTS else 1
        start = spec["dims"][dim.name]
        most = min(dim.size, max(math.floor(start * _ROOM), start + unit))

        def at(steps: int) -> Spec:
            return {**spec, "dims": {**spec["dims"], dim.name: start + steps * unit}}

        return at(largest(0, (most - start) // unit, lambda steps: fits(at(steps))))


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to ``high`` that fits, by bisection, where ``low`` does and what fits has no gaps."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low

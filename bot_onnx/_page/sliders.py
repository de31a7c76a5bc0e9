"""What can be turned: layers, hidden, heads, intermediate, or width, each in the steps that the solver admits.

A page has no solver. So every step says which leaves it gives which size, and what is shown where several sliders are
moved must be what the solver says of all of them. The command that a page shows names every slider of widths, so what
is left to derive follows from one of them alone; that no leaf follows two is seen from the steps, and the solver is
asked at many positions besides. Where it disagrees, sliders are left out and their sizes derived.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any, Final, Literal

from bot_onnx._fit.families import Width, family_of, unit_of
from bot_onnx._structure import Role, Structure
from bot_onnx._target import Solution, TargetSpec, solve
from bot_onnx._target.composition import Composition
from bot_onnx.errors import BotError

_STEPS: Final = 64  #: most steps of a slider, but for those that another one leads to
_GROWN: Final = 2  #: how many times its size a slider goes up to
_DRAWN: Final = 40  #: positions at which the solver is asked, besides those at the ends
_ROLES: Final = (
    Role.HIDDEN.value,
    Role.HEADS.value,
    Role.INTERMEDIATE.value,
)  #: keys of a spec; the first leads the others
_WIDTHS: Final = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875, 2.0)

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A place of a slider.

    Attributes:
        value: what the option takes.
        sizes: size by id of the leaves that differ from the source's.
        layers: depth by chain, of the chains that differ.
        leads: value by key of the sliders that go along where their own sizes are not asked for.
    """

    value: float
    sizes: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)
    leads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slider:
    """One size that can be turned.

    Attributes:
        key: unique: that of a spec, with the chain's name for ``layers``.
        kind: ``layers``, ``size`` or ``width``. chain: whose layers these are.
        start: index of the step that is the source's.
    """

    key: str
    kind: Literal["layers", "size", "width"]
    steps: tuple[Step, ...]
    start: int
    chain: str | None = None


@dataclass(frozen=True, slots=True)
class Sliders:
    """All of them.

    Attributes:
        round_to: what ``--width`` rounds channels to; None without that slider.
        held: size by name of the dims that the command names, for the proof keeps them.
        notes: what to know, in sentences.
    """

    sliders: tuple[Slider, ...]
    round_to: int | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def free(self) -> set[str]:
        """Ids of the leaves that some step changes."""
        return {ident for slider in self.sliders for step in slider.steps for ident in step.sizes}

    def spec(self, steps: Mapping[str, Step]) -> Spec:
        """What the command of a position asks for, given the step of some sliders by key; others are at their start."""
        at = {one.key: steps.get(one.key, one.steps[one.start]) for one in self.sliders}
        spec: Spec = {"layers": {}, "dims": dict(self.held)}
        for one in self.sliders:
            if one.chain is not None:
                spec["layers"][one.chain] = int(at[one.key].value)
            elif one.kind == "width":
                spec |= _scaled(float(at[one.key].value), self.round_to)
            else:
                spec[one.key] = int(at[one.key].value)
        return {key: value for key, value in spec.items() if value}


def sliders_of(structure: Structure, held: Collection[str] = ()) -> Sliders:
    """The sliders of a network.

    Args:
        structure: of the source; dims that the proof keeps are frozen in it.
        held: ids of those dims.
    """
    depths = tuple(_depths(structure))
    named = {structure.dims[ident].name: structure.dims[ident].size for ident in held}
    family = family_of(structure, ())
    if isinstance(family, Width):
        width = _width(structure, family.round_to, named)
        return Sliders((*depths, *width), family.round_to if width else None, named)
    keys = [role for role in _ROLES if _source_size(structure, role) is not None]
    for count in range(len(keys), 0, -1):
        for chosen in combinations(keys, count):
            widths = _widths(structure, chosen, named)
            if widths and _agrees(structure, Sliders(widths, held=named)):
                return Sliders((*depths, *widths), held=named)
    return Sliders(depths, held=named)


def _depths(structure: Structure) -> Iterator[Slider]:
    """A slider a chain whose depth can change; chains that share weights have one."""
    for chain in structure.chains:
        if chain.resizable is not None or chain.follows is not None:
            continue
        most = max(_GROWN * chain.count, chain.count + 1)
        counts = _thinned(range(chain.leading + 1, most + 1), chain.count)
        steps = []
        for count in counts:
            found = _solved(structure, {"layers": {chain.name: count}})
            if found is not None:
                layers = {one.name: found.layers[one.name] for one in structure.chains}
                changed = {one.name: layers[one.name] for one in structure.chains if layers[one.name] != one.count}
                steps.append(Step(count, layers=changed))
        yield from _slider(f"layers {chain.name}", "layers", steps, chain.count, chain.name)


def _width(structure: Structure, round_to: int, held: Mapping[str, int]) -> Iterator[Slider]:
    steps = []
    for width in _WIDTHS:
        found = _solved(structure, {**_scaled(width, round_to), "dims": dict(held)})
        if found is not None:
            steps.append(Step(width, _changed(structure, found)))
    if any(step.sizes for step in steps):
        yield from _slider("width", "width", steps, 1.0)


def _scaled(width: float, round_to: int | None) -> Spec:
    """What asks for a width; that of the source is not rounded, so that it is the source's."""
    return {"width": width} if width == 1.0 else {"width": width, "round_to": round_to}


def _slider(
    key: str, kind: Literal["layers", "size", "width"], steps: Sequence[Step], source: float, chain: str | None = None
) -> Iterator[Slider]:
    """A slider, if it can be moved."""
    start = next((place for place, step in enumerate(steps) if step.value == source), None)
    if start is not None and len(steps) > 1 and not steps[start].sizes:
        yield Slider(key, kind, tuple(steps), start, chain)


def _widths(structure: Structure, keys: Sequence[str], held: Mapping[str, int]) -> tuple[Slider, ...]:
    """A slider a role, each moved while all others are asked to stay; none if one of them cannot be moved."""
    sources = {key: size for key in keys if (size := _source_size(structure, key)) is not None}
    leads = _leads(structure, sources, held)
    made: list[Slider] = []
    for key, size in sources.items():
        wanted = sorted({*_levels(structure, key, size), *(lead[key] for lead in leads.values() if key in lead)})
        steps = []
        for value in wanted:
            found = _solved(structure, {**sources, key: value, "dims": dict(held)})
            if found is not None:
                ahead = leads.get(value, {}) if key == keys[0] else {}
                steps.append(Step(value, _changed(structure, found), leads=ahead))
        made += _slider(key, "size", steps, size)
    return _known_leads(made) if len(made) == len(keys) else ()


def _known_leads(made: Sequence[Slider]) -> tuple[Slider, ...]:
    """Sliders whose steps lead to places that there are."""
    values = {one.key: {step.value for step in one.steps} for one in made}

    def known(step: Step) -> Step:
        return replace(step, leads={key: size for key, size in step.leads.items() if size in values.get(key, ())})

    return tuple(replace(one, steps=tuple(map(known, one.steps))) for one in made)


def _leads(structure: Structure, sources: Mapping[str, int], held: Mapping[str, int]) -> dict[int, dict[str, int]]:
    """What the others become by themselves where the first size is asked for alone, by its value."""
    first, *others = sources
    comp, found = Composition(structure), {}
    for value in _levels(structure, first, sources[first]):
        solution = _solved(structure, {first: value, "dims": dict(held)})
        if solution is not None:
            sizes = {**solution.sizes}
            for ident in comp.virtual:
                sizes[ident] = math.prod(sizes[part] for part in comp.dims[ident].parts)
            found[value] = {key: sizes[comp.with_role(key)[0].id] for key in others}
    return found


def _levels(structure: Structure, key: str, size: int) -> list[int]:
    """Sizes to ask the solver for: whole heads of the stream, multiples of 8 where the source's is one."""
    step = unit_of(size)
    if key == Role.HEADS:
        step = 1
    elif key == Role.HIDDEN:
        channels = _source_size(structure, Role.HEAD_DIM)
        step = channels if channels and size % channels == 0 else step
    return _thinned(range(step, _GROWN * size + 1, step), size)


def _thinned(values: range, source: int) -> list[int]:
    """Not too many of them, evenly, the source's among them."""
    stride = -(-len(values) // _STEPS)
    kept = [value for value in values if (value - source) % (values.step * stride) == 0]
    return sorted({*kept, source, values[0]}) if len(values) else [source]


def _source_size(structure: Structure, role: str) -> int | None:
    found = Composition(structure).with_role(role)
    return found[0].size if found else None


def _changed(structure: Structure, solution: Solution) -> dict[str, int]:
    """Sizes of the leaves that are not the source's."""
    leaves = (dim for dim in structure.dims.values() if not dim.parts)
    return {dim.id: solution.sizes[dim.id] for dim in leaves if solution.sizes[dim.id] != dim.size}


def _solved(structure: Structure, spec: Spec) -> Solution | None:
    try:
        return solve(structure, TargetSpec.parse({key: value for key, value in spec.items() if value != {}}))
    except BotError:
        return None


def _agrees(structure: Structure, made: Sliders) -> bool:
    """Whether the solver gives, at joint positions, what the steps say one by one."""
    reached = [{ident for step in one.steps for ident in step.sizes} for one in made.sliders]
    if any(one & other for one, other in combinations(reached, 2)):
        return False
    for position in _positions(made.sliders):
        found = _solved(structure, made.spec(position))
        told = {ident: size for step in position.values() for ident, size in step.sizes.items()}
        if found is None or _changed(structure, found) != told:
            return False
    return True


def _positions(sliders: Sequence[Slider]) -> Iterable[dict[str, Step]]:
    """All corners, where the first slider leads the others to, and some drawn ones (always the same)."""
    ends = [(one.steps[0], one.steps[one.start], one.steps[-1]) for one in sliders]
    for steps in product(*ends):
        yield {one.key: step for one, step in zip(sliders, steps, strict=True)}
    for step in sliders[0].steps:
        led = {one.key: next((s for s in one.steps if s.value == step.leads.get(one.key)), None) for one in sliders}
        yield {key: found for key, found in led.items() if found is not None} | {sliders[0].key: step}
    draw = random.Random(0)
    for _ in range(_DRAWN):
        yield {one.key: draw.choice(one.steps) for one in sliders}

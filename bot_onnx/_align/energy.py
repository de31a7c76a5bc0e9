"""How much of the weights' energy a halving keeps: what a method and an alignment are worth, per stack and axis.

Along one leaf a method keeps the projection onto the rows of its operator: Haar, of the pairs x, y, the part
‖x + y‖²/2 of ‖x‖² + ‖y‖²: one half where neighbours have nothing in common, all where they are equal. Energy is the
plain sum of squares, with no mean removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from bot_onnx._align.axes import leaves_of, positions
from bot_onnx._align.gram import has_pattern, sum_of_squares
from bot_onnx._align.projection import Matrix, Projection, projection
from bot_onnx._align.types import Aligned, Alignment, AnyArray, Kind, Progress
from bot_onnx._structure import Role, Stack, Structure

#: Leaves of these roles are halved; what lies inside a head stays, as it does where a spec names hidden alone.
_HALVED_ROLES = frozenset({Role.HIDDEN, Role.HEADS, Role.KV_HEADS, Role.INTERMEDIATE, Role.FREE})
_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"})

#: (n_source, n_target) -> the operator ``[n_target, n_source]`` that a method applies along a leaf.
AxisOperator = Callable[[int, int], Matrix]


@dataclass(frozen=True, slots=True)
class AxisEnergy:
    """Share of a stack's energy that halving one leaf along one axis keeps, mean over the layers.

    ``kept`` is None where the alignment itself has brought the leaf to its size.
    """

    axis: int
    dim: str
    leaf: str
    kept: float | None


@dataclass(frozen=True, slots=True)
class StackEnergy:
    """Share of a stack's energy kept along each axis alone, and along all of them together."""

    stack: str
    name: str
    axes: tuple[AxisEnergy, ...]
    kept: float


@dataclass(frozen=True, slots=True)
class EnergyTable:
    """Rows of all the stacks that halving touches, for one alignment and method; ``mean`` counts stacks alike."""

    kind: Kind
    method: str
    rows: tuple[StackEnergy, ...]

    @property
    def mean(self) -> float:
        """Mean of the stacks' kept shares; NaN without rows."""
        return float(np.mean([row.kept for row in self.rows])) if self.rows else float("nan")


def halved(structure: Structure) -> dict[str, int]:
    """Target size per dim id when every free leaf of even size is halved: hidden, heads, neurons, channels.

    Heads keep their size, tables their rows.
    """
    sizes = {dim.id: dim.size for dim in structure.dims.values()}
    for dim in structure.dims.values():
        if not dim.parts and dim.frozen is None and dim.role in _HALVED_ROLES and dim.size % 2 == 0:
            sizes[dim.id] = dim.size // 2
    return sizes


def energy(
    structure: Structure,
    alignment: Alignment,
    aligned: Aligned,
    operators: Mapping[str, AxisOperator],
    sizes: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> tuple[EnergyTable, ...]:
    """Measure what halving keeps of the aligned weights.

    Args:
        structure: of the source.
        alignment, aligned: the alignment to judge, planned for ``sizes``, and what came of it.
        operators: method -> its operator along a leaf.
        sizes: which leaves shrink, and to what; by default those of :func:`halved`.
        progress: called with (stack, steps done, steps in all).

    Returns:
        A table per method, with a row per stack of two or more axes of which at least one shrinks. Where an alignment
        truncates on its own account, the share is what it left of the energy of the same tensor before truncation.
    """
    targets = dict(sizes) if sizes is not None else halved(structure)
    shrinking = {d.id for d in structure.dims.values() if not d.parts and targets.get(d.id, d.size) < d.size}
    chosen = [
        stack
        for stack in structure.stacks
        if has_pattern(stack)
        and stack.twin_of is None
        and stack.dtype in _FLOATS
        and stack.closed_form is None
        and any(shrinking.intersection(leaves_of(structure, dim)) for dim in stack.axes if dim)
    ]
    meters = {name: _Meter(alignment.structure, targets, operator) for name, operator in operators.items()}
    rows: dict[str, list[StackEnergy]] = {name: [] for name in operators}
    for step, stack in enumerate(chosen, start=1):
        places = [
            Place(axis, dim, leaf)
            for axis, dim in enumerate(stack.axes)
            if dim is not None
            for leaf in dict.fromkeys(leaves_of(structure, dim))
            if leaf in shrinking
        ]
        for name, row in _stack_energy(stack, places, aligned, meters).items():
            rows[name].append(row)
        if progress is not None:
            progress(stack.name, step, len(chosen))
    return tuple(EnergyTable(alignment.kind, name, tuple(found)) for name, found in rows.items())


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf that shrinks, along an axis of a stack."""

    axis: int
    dim: str
    leaf: str


class _Meter:
    """Project tensors as one method does, leaf by leaf."""

    def __init__(self, present: Structure, targets: Mapping[str, int], operator: AxisOperator) -> None:
        self._present, self._targets = present, targets

        @cache
        def of(source: int, target: int) -> Projection:
            return projection(operator(source, target))

        self._projection = of

    def project(self, values: AnyArray, place: Place) -> AnyArray | None:
        """What is kept of ``values`` along a leaf; None where the alignment itself brought it to its size."""
        size, target = self._present.dims[place.leaf].size, self._targets[place.leaf]
        if size == target:
            return None
        found = self._projection(size, target)
        result = np.moveaxis(values, place.axis, 0).copy()
        for run in positions(self._present, place.dim, (place.leaf,)):
            result[run] = found.project(result[run])
        return np.moveaxis(result, 0, place.axis)

    def shares(self, values: AnyArray, places: list[Place], whole: float) -> tuple[list[float | None], float]:
        """Share of the tensor's energy kept along each place alone, and of ``whole`` along all of them together."""
        energy = sum_of_squares(values)
        alone: list[float | None] = []
        smooth = values
        for place in places:
            kept = self.project(values, place)
            alone.append(None if kept is None else sum_of_squares(kept) / energy)
            together = kept if smooth is values else self.project(smooth, place)
            smooth = smooth if together is None else together
        return alone, sum_of_squares(smooth) / whole


def _stack_energy(
    stack: Stack, places: list[Place], aligned: Aligned, meters: Mapping[str, _Meter]
) -> dict[str, StackEnergy]:
    """A row per method; the mean over the layers whose tensor is not all zero."""
    found: dict[str, list[tuple[list[float | None], float]]] = {name: [] for name in meters}
    for tensor in stack.tensors:
        values = aligned.read(tensor).astype(np.float32)
        whole = aligned.whole_energy(tensor)
        if whole == 0 or not values.any():
            continue
        for name, meter in meters.items():
            found[name].append(meter.shares(values, places, whole))
    return {name: _row(stack, places, shares) for name, shares in found.items()}


def _row(stack: Stack, places: list[Place], shares: list[tuple[list[float | None], float]]) -> StackEnergy:
    axes = []
    for index, place in enumerate(places):
        kept = [share for alone, _ in shares if (share := alone[index]) is not None]
        axes.append(AxisEnergy(place.axis, place.dim, place.leaf, float(np.mean(kept)) if kept else None))
    together = float(np.mean([share for _, share in shares])) if shares else float("nan")
    return StackEnergy(stack.id, stack.name, tuple(axes), together)

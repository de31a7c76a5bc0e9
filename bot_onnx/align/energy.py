"""How much of the weights' energy a halving keeps: what an alignment is worth, in one number per stack and axis.

Along one leaf, a Haar step keeps of the pairs x, y the part ‖x + y‖²/2 of ‖x‖² + ‖y‖²: one half where neighbours have
nothing in common, all where they are equal. Energy is the plain sum of squares, with no mean removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bot_onnx.align.axes import leaves_of, positions
from bot_onnx.align.gram import has_pattern, sum_of_squares
from bot_onnx.align.types import Aligned, Alignment, AnyArray, Kind, Progress
from bot_onnx.graph.types import Stack, Structure

#: Leaves of these roles are halved; what lies inside a head stays, as it does where a spec names hidden alone.
_HALVED_ROLES = frozenset({"hidden", "heads", "kv_heads", "intermediate", "free"})
_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"})


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
    """Rows of all the stacks that halving touches, for one alignment; ``mean`` counts every stack alike."""

    kind: Kind
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
    sizes: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> EnergyTable:
    """Measure what halving by Haar keeps of the aligned weights.

    Args:
        structure: of the source.
        alignment, aligned: the alignment to judge, planned for ``sizes``, and what came of it.
        sizes: which leaves are halved (those that shrink); by default those of :func:`halved`.
        progress: called with (stack, steps done, steps in all).

    Returns:
        A row per stack of two or more axes of which at least one is halved. Where an alignment truncates on its own
        account, the share is what it left of the energy of the same tensor before truncation.
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
    rows: list[StackEnergy] = []
    for step, stack in enumerate(chosen, start=1):
        rows.append(_stack_energy(alignment.structure, stack, shrinking, structure, aligned))
        if progress is not None:
            progress(stack.name, step, len(chosen))
    return EnergyTable(alignment.kind, tuple(rows))


def _stack_energy(
    present: Structure, stack: Stack, shrinking: set[str], source: Structure, aligned: Aligned
) -> StackEnergy:
    places = [
        (axis, dim, leaf)
        for axis, dim in enumerate(stack.axes)
        if dim is not None
        for leaf in dict.fromkeys(leaves_of(source, dim))
        if leaf in shrinking
    ]
    alone: list[list[float]] = [[] for _ in places]
    together: list[float] = []
    for name in stack.tensors:
        values = aligned.read(name).astype(np.float32)
        whole = aligned.whole_energy(name)
        if whole == 0:
            continue
        smooth = values
        for index, (axis, dim, leaf) in enumerate(places):
            if present.dims[leaf].size != source.dims[leaf].size:
                continue
            alone[index].append(sum_of_squares(_smoothed(present, values, axis, dim, leaf)) / sum_of_squares(values))
            smooth = _smoothed(present, smooth, axis, dim, leaf)
        together.append(sum_of_squares(smooth) / whole)
    axes = tuple(
        AxisEnergy(axis, dim, leaf, float(np.mean(found)) if found else None)
        for (axis, dim, leaf), found in zip(places, alone, strict=True)
    )
    return StackEnergy(stack.id, stack.name, axes, float(np.mean(together)) if together else float("nan"))


def _smoothed(structure: Structure, values: AnyArray, axis: int, dim: str, leaf: str) -> AnyArray:
    """Both of every two neighbours along a leaf replaced by their mean: the projection whose energy Haar keeps."""
    result = np.moveaxis(values, axis, 0).copy()
    for run in positions(structure, dim, (leaf,)):
        left, right = run[0 : len(run) // 2 * 2 : 2], run[1::2]
        mean = (result[left] + result[right]) / 2
        result[left] = result[right] = mean
    return np.moveaxis(result, 0, axis)

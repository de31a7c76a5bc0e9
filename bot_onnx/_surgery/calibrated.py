"""Activation scales that were calibrated on data at the source's sizes: which of them hold at others.

What keeps its size keeps its scale: inputs, outputs, the channels between. Where the outputs are promised to be kept
through copies of channels, every activation holds the numbers it held, and all scales hold. Others are dropped: nobody
has measured what the resized network computes there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._canonical.decompose import Grid
from bot_onnx._surgery.settled import Settled


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What of a static quantisation goes on in the target.

    Attributes:
        grids: what activations are rounded to, by their names in the target.
        kept, dropped: numbers of activation scales.
        weights: names of the target's tensors that are made of quantised ones.
    """

    grids: Mapping[str, Grid]
    kept: int
    dropped: int
    weights: frozenset[str]


def holding(analysis: Analysis, settled: Settled) -> list[tuple[ir.Value, Grid]]:
    """Activations whose scales hold at the new sizes; to be asked before the depth changes."""
    whole = all(settled.promise.keeps(output.name or "") for output in analysis.model.graph.outputs)
    copies = whole and not (settled.laws.widened or settled.gains)
    return [
        (value, grid)
        for value, grid in analysis.form.decomposed.roundings
        if copies or not _changes(analysis, value, settled.solution.sizes)
    ]


def _changes(analysis: Analysis, value: ir.Value, sizes: dict[str, int]) -> bool:
    return any(
        dim is not None and analysis.new_size(dim, sizes) != analysis.context.table.size(dim)
        for dim in analysis.context.axes_of(value)
    )


def going_on(
    analysis: Analysis, held: Iterable[tuple[ir.Value, Grid]], renamed: Iterable[tuple[Sequence[str], Sequence[str]]]
) -> Calibrated:
    """What goes on once the depth has changed.

    Args:
        analysis: with the target's graph.
        held: as :func:`holding` gave it.
        renamed: per stack, names of its tensors in the source and in the target; what is added is like the last one.
    """
    graph = analysis.model.graph
    decomposed = analysis.form.decomposed
    present = {value for node in graph for value in node.outputs} | set(graph.inputs)
    grids = {value.name or "": grid for value, grid in held if value in present}
    packed = {value.name or "" for value, _ in decomposed.weights}
    weights = {
        name
        for sources, targets in renamed
        for index, name in enumerate(targets)
        if sources[min(index, len(sources) - 1)] in packed
    }
    return Calibrated(grids, len(grids), len(decomposed.roundings) - len(grids), frozenset(weights))


def told(calibrated: Calibrated) -> str:
    """What happens to the scales, in a sentence."""
    note = f"Activation scales: {calibrated.kept} stay as they were calibrated, on what keeps its size or its numbers"
    if not calibrated.dropped:
        return f"{note}; scales of weights are computed again."
    return (
        f"{note}; {calibrated.dropped} are dropped, and what they rounded stays in floating point: calibrate it with "
        "your data (onnxruntime.quantization.quantize_static on the result without --requantize). Scales of weights "
        "are computed again."
    )

"""How much of a network a candidate keeps, as far as weights alone tell: a share of their energy.

No share of a sum of squares is an accuracy. It compares candidates of one network: what is dropped beyond what is
alike. Trained weights are next to white, so every share is close to that of the sizes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from bot_onnx._align import align, find_facts, plan_alignment
from bot_onnx._align.energy import energy
from bot_onnx._align.gram import has_pattern
from bot_onnx._analysis.passes import Analysis
from bot_onnx._resample import shrinking_operators
from bot_onnx._target import Solution

_METHOD: Final = "bot"
_FLOATS: Final = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


@dataclass(frozen=True, slots=True)
class Kept:
    """Shares of the weights' energy that are kept, every weight counted alike.

    Attributes:
        overall: along depth and widths together.
        layers: along depth alone. widths: along widths alone.
    """

    overall: float
    layers: float
    widths: float

    @property
    def balance(self) -> float:
        """The smaller of the two sides: a network that is cut on one side alone has this one low."""
        return min(self.layers, self.widths)


def kept_energy(analysis: Analysis, solution: Solution) -> Kept:
    """Share of the energy that is kept, of all stacks with a pattern (matrices, kernels, tables).

    Along widths it is what ``inspect --energy`` measures for method ``bot`` without an alignment, at these sizes. Of
    layers that go nothing is kept: layers have next to nothing in common.

    Args:
        analysis: of the source; its weights are read.
        solution: the candidate's sizes.
    """
    structure = analysis.structure
    tensors = {
        name: value.const_value
        for name, value in analysis.model.graph.initializers.items()
        if value.const_value is not None
    }
    alignment = plan_alignment("none", structure, solution.sizes, find_facts(analysis))
    aligned = align(alignment, tensors)
    operators = {_METHOD: shrinking_operators()[_METHOD]}
    (table,) = energy(structure, alignment, aligned, operators, solution.sizes)
    along = {row.stack: row.kept for row in table.rows if np.isfinite(row.kept)}
    depths = {c.name: min(1.0, solution.layers[c.name] / c.count) for c in structure.chains}
    overall: list[tuple[float, float]] = []
    layers: list[tuple[float, float]] = []
    widths: list[tuple[float, float]] = []
    for stack in structure.stacks:
        if not has_pattern(stack) or stack.twin_of is not None or stack.closed_form or stack.dtype not in _FLOATS:
            continue
        weights = float(prod(stack.shape) * len(stack.tensors))
        wide = along.get(stack.id, 1.0)
        deep = 1.0 if stack.chain is None or stack.shared else depths[stack.chain]
        overall.append((wide * deep, weights))
        widths.append((wide, weights))
        if stack.chain is not None:
            layers.append((deep, weights))
    return Kept(_mean(overall), _mean(layers), _mean(widths))


def _mean(shares: list[tuple[float, float]]) -> float:
    total = sum(weight for _, weight in shares)
    return sum(share * weight for share, weight in shares) / total if total else 1.0

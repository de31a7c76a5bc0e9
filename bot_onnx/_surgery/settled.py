"""What is decided of a plan before the graph changes: sizes, how they grow, what is proven and promised of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bot_onnx._analysis.facts import Scale
from bot_onnx._analysis.passes import Analysis
from bot_onnx._structure import Structure
from bot_onnx._surgery.laws import Laws
from bot_onnx._surgery.proven import Promise, Proof
from bot_onnx._target import Solution


@dataclass(frozen=True, slots=True)
class Settled:
    """Sizes with what is known of them.

    Attributes:
        solution: size of every dim, depth of every chain.
        proof: of the sizes.
        promise: of the outputs.
        laws: how dims grow.
        gains: factor per stack id that its weights take so that the function stays.
        structure: of the source; dims that are kept because the proof fails for them are frozen in it.
        scales: factors that follow dims, those that the proof found included.
    """

    solution: Solution
    proof: Proof
    promise: Promise
    laws: Laws
    gains: Mapping[str, float]
    structure: Structure
    scales: tuple[Scale, ...]

    def over(self, analysis: Analysis) -> Analysis:
        """The analysis with what was learned of it."""
        return replace(analysis, structure=self.structure, scales=self.scales)

"""What is decided of a plan before the graph changes: sizes, how they grow, what is proven and promised of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    """

    solution: Solution
    proof: Proof
    promise: Promise
    laws: Laws
    gains: Mapping[str, float]

"""What a network costs, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Name of what lies in no chain of layers: embeddings, heads, stems.
OUTSIDE = "outside the layers"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one chain of layers, or of all that lies outside of them.

    Attributes:
        name: of the chain, or :data:`OUTSIDE`.
        layers: number of layers, 0 outside.
        parameters: floating-point weights, each tensor once.
        weight_bytes: bytes of the weights as a resize stores them, tables of integers included: in the source's types,
            those of a quantised one as floats.
        macs: multiply-accumulates of one run.
    """

    name: str
    layers: int
    parameters: int
    weight_bytes: int
    macs: int


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a whole network. Every node counts once: in a loop, and in both branches of an If.

    Attributes:
        inputs: shape of every input that the multiply-accumulates are counted at.
        parameters, weight_bytes, macs: of all parts together.
        parts: chain by chain, then what lies outside.
        uncounted: nodes whose multiply-accumulates are not known, for the shapes around them are not.
    """

    inputs: dict[str, tuple[int, ...]]
    parameters: int
    weight_bytes: int
    macs: int
    parts: tuple[Cost, ...]
    uncounted: tuple[str, ...] = ()

    @classmethod
    def of(cls, inputs: dict[str, tuple[int, ...]], parts: Sequence[Cost], uncounted: tuple[str, ...]) -> Costs:
        """Add up what the parts cost."""
        return cls(
            inputs,
            sum(part.parameters for part in parts),
            sum(part.weight_bytes for part in parts),
            sum(part.macs for part in parts),
            tuple(parts),
            uncounted,
        )

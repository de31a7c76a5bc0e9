"""What normalisation did to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from bot_onnx._canonical.decompose import Decomposed, Scheme
from bot_onnx._canonical.folded_norms import folded_note


@dataclass(frozen=True, slots=True)
class Form:
    """The form that a file had before it was normalised.

    Attributes:
        scheme: how it was quantised; None where it was not.
        decomposed: which of its weights and activations were quantised.
        fused: ops that were written out, and how many there were.
        copies: number of tensors that were copies of others.
        repairs: what was wrong in the file and is right in what is written, in sentences.
    """

    scheme: Scheme | None = None
    decomposed: Decomposed = field(default_factory=Decomposed)
    fused: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0
    repairs: tuple[str, ...] = ()

    def notes(self, graph: ir.Graph) -> tuple[str, ...]:
        """What was changed, and what the normalised ``graph`` lacks, in sentences."""
        notes: list[str] = [*self.repairs]
        if self.scheme is not None:
            notes.append(f"Quantised: {self.scheme.describe()}. The analysis is that of the weights in floating point.")
        if self.fused:
            ops = ", ".join(f"{name} x {count}" for name, count in sorted(self.fused.items()))
            notes.append(f"Fused ops are written out: {ops}.")
        if self.copies:
            notes.append(
                f"{self.copies} tensors were copies of others: weights that the network shares, written once now."
            )
        return (*notes, *folded_note(graph))

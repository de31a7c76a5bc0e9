"""What the training of a resize's operators came to, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Learned:
    """What the training of operators came to.

    Attributes:
        steps: that were made. samples: number of those trained on.
        loss: at the first step and, as a mean over the last tenth of the steps, at the end; None without steps.
        operators: number of trained operators. parameters: of their elements.
        tensors: number of tensors that follow from them. weights: of their elements.
        as_planned: number of tensors that stay as the method makes them.
        kept: number of tensors of which a part is no operator's work and stays as the method makes it.
        notes: what else was found, in sentences.
    """

    steps: int
    samples: int
    loss: tuple[float, float] | None
    operators: int
    parameters: int
    tensors: int
    weights: int
    as_planned: int
    kept: int
    notes: tuple[str, ...] = ()

    def told(self) -> str:
        """The same in a sentence or two."""
        loss = "" if self.loss is None else f", loss {self.loss[0]:.4g} -> {self.loss[1]:.4g}"
        text = (
            f"Learned: {self.operators} operators ({self.parameters:,} numbers) in {self.steps} steps on "
            f"{self.samples:,} samples{loss}; {self.tensors} tensors ({self.weights:,} weights) follow from them"
        )
        text += f", {self.as_planned} are as the method makes them" if self.as_planned else ""
        if not self.kept:
            return f"{text}."
        besides = "noise, neutral layers, norms that follow a turn"
        return f"{text}. Of {self.kept} tensors a part is no operator's work ({besides}): it stays."

"""The outcome of a verification, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, how it ended, and what was seen."""

    name: str
    status: Literal["pass", "fail", "skip"]
    detail: str


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """How close one output is to the source's on the same inputs.

    Attributes:
        output: name. shape: of the new output at the first input size.
        cosine: mean cosine similarity over the last axis.
        max_difference: largest absolute difference. scale: largest absolute value of the source's output.
        divergence: mean KL divergence in nats where the last axis is logits, else None.
        mapped: how the source's output was brought to the new size (None where the shapes agree).
    """

    output: str
    shape: tuple[int, ...]
    cosine: float | None
    max_difference: float | None
    scale: float | None
    divergence: float | None
    mapped: str | None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """All checks of one model file."""

    path: str
    checks: tuple[Check, ...]
    comparisons: tuple[OutputComparison, ...] = field(default=())
    parameters: int = 0
    size_bytes: int = 0
    layers: dict[str, int] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "fail" for check in self.checks)

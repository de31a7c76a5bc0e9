"""Candidates for a budget, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bot_onnx._costs import Costs
from bot_onnx._fit.budget import Budget

NEARLY: Final = 0.98  #: share of the budget that a network should make use of, where its sizes allow
ENOUGH: Final = 0.9  #: where they do not


def grade(used: float) -> int:
    """2 for a share of the budget that is nearly all of it, 1 for enough of it, 0 for less."""
    return (used >= NEARLY) + (used >= ENOUGH)


@dataclass(frozen=True, slots=True)
class Original:
    """The source as it is.

    Attributes:
        path: of the file.
        size_bytes: of the file; counted with a byte a weight where the budget says so.
        costs: parameters, bytes of weights, multiply-accumulates.
        seconds: median time of a run, None: not measured.
    """

    path: str
    size_bytes: int
    costs: Costs
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Sizes within the budget.

    Attributes:
        spec: what ``resize`` takes.
        layers: depth of every chain that can change, by name.
        sizes: size of every dim that can change, by name.
        size_bytes: of the file that ``resize`` writes, from its plan; counted as the budget says.
        costs: parameters, bytes of weights, multiply-accumulates.
        kept: share of the energy of matrices, kernels and tables that is kept, along depth and widths together.
        balance: the smaller of the shares that are kept along depth alone and along widths alone.
        used: the largest share of a limit that is spent.
        seconds: median time of a run with random weights, None: not measured.
    """

    spec: dict[str, Any]
    layers: dict[str, int]
    sizes: dict[str, int]
    size_bytes: int
    costs: Costs
    kept: float
    balance: float
    used: float
    seconds: float | None = None

    @property
    def rank(self) -> tuple[int, float]:
        """What candidates are ordered by: how well it makes use of the budget, then its balance."""
        return grade(self.used), self.balance


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found for a budget.

    Attributes:
        source: the network as it is.
        budget: what was asked.
        candidates: within the budget, none of them worse than another in all that is shown; best first.
        notes: what to know of them, in sentences.
        threads: of the measured runs.
    """

    source: Original
    budget: Budget
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]
    threads: int

    @property
    def pick(self) -> Candidate:
        """The best balanced of those that make use of the budget: its depth and its widths both keep much."""
        return self.candidates[0]

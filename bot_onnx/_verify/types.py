"""The outcome of a verification, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bot_onnx import _html
from bot_onnx._costs import Costs
from bot_onnx._surgery.proven import Promise

#: ``info``: something was seen that is neither right nor wrong, for nothing was promised of it.
Status = Literal["pass", "fail", "skip", "info"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, how it ended, and what was seen."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """How close one output is to the source's on the same inputs.

    Attributes:
        output: name. shape: of the new output at the first input size.
        cosine: mean cosine similarity over the last axis, of floats.
        max_difference: largest absolute difference of what is finite in both.
        scale: largest absolute value of the source's output, times ``factor``; what a mask filled in does not count.
        divergence: mean KL divergence in nats where the last axis is logits, else None.
        mapped: how the source's output was brought to the new size (None where the shapes agree).
        agrees: whether it is what was promised; None where nothing was.
        tolerance: largest difference allowed, as a part of ``scale``; None where nothing was promised. Outputs that are
            no floats must be equal.
        differing: number of elements that are further off, or NaN or infinite in one of them only.
        factor: number that the source's output was multiplied by, as promised.
        nonfinite: number of elements that are NaN or infinite in the new output.
        nonfinite_alike: whether these are NaN or infinite in the source's output as well, and no others.
        equal: part of the elements that are the source's, of an output that is no floats (labels), else None.
    """

    output: str
    shape: tuple[int, ...]
    cosine: float | None
    max_difference: float | None
    scale: float | None
    divergence: float | None
    mapped: str | None
    agrees: bool | None = None
    tolerance: float | None = None
    differing: int = 0
    factor: float = 1.0
    nonfinite: int = 0
    nonfinite_alike: bool = True
    equal: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class VerifyReport:
    """All checks of one model file.

    ``costs`` are None where the analysis failed.
    ``fell_back`` names the files that were to run on a CUDA device and ran on the CPU.
    ``promise`` is what the file says of its outputs, where it was held against the model that it was made from.
    """

    path: str
    checks: tuple[Check, ...]
    comparisons: tuple[OutputComparison, ...] = field(default=())
    parameters: int = 0
    size_bytes: int = 0
    layers: dict[str, int] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    promise: Promise | None = None
    costs: Costs | None = None
    fell_back: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "fail" for check in self.checks)

    def __repr__(self) -> str:
        """The verdict in a line."""
        failed = [check.name for check in self.checks if check.status == "fail"]
        skipped = [check.name for check in self.checks if check.status == "skip"]
        verdict = f"FAILED {', '.join(failed)}" if failed else "passed"
        rest = f", not checked: {', '.join(skipped)}" if skipped else ""
        return f"<VerifyReport of {self.path}: {verdict}, {len(self.checks) - len(skipped)} checks{rest}>"

    def _repr_html_(self) -> str:
        checks = ((check.name, check.status, check.detail) for check in self.checks)
        outputs = ((e.output, e.cosine, e.max_difference, e.scale, e.agrees) for e in self.comparisons)
        columns = ("output", "cosine", "max diff", "scale", "as promised")
        return _html.block(
            _html.table(repr(self)[1:-1], ("check", "result", "seen"), checks),
            _html.table("Compared with the source", columns, outputs) if self.comparisons else "",
        )

"""What is handed back: what a file holds, and what a finished resize has made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot_onnx import _html

if TYPE_CHECKING:
    from pathlib import Path

    from bot_onnx._costs import Costs
    from bot_onnx._learn.types import Learned
    from bot_onnx._onnxfile.header import Port
    from bot_onnx._onnxfile.kept_work import Resumed
    from bot_onnx._structure import Structure
    from bot_onnx._surgery.types import Plan
    from bot_onnx._verify import VerifyReport


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """What a model file holds: the structure, and facts of the file."""

    path: str
    structure: Structure
    opset: int
    producer: str
    size_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    costs: Costs

    def __repr__(self) -> str:
        """The file, and its structure in a line."""
        return f"<Inspection of {self.path}: {self.structure!r}>"

    def _repr_html_(self) -> str:
        ports = {"inputs": self.inputs, "outputs": self.outputs}
        told = {key: "; ".join(f"{name}: {kind} {list(shape)}" for name, kind, shape in ports[key]) for key in ports}
        facts = {"model": self.path, "bytes": f"{self.size_bytes:,}", "opset": self.opset, "producer": self.producer}
        return _html.block(_html.facts("Model", facts | told), self.structure._repr_html_())


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """A finished resize."""

    plan: Plan
    report: VerifyReport
    output: Path
    seconds: float
    learned: Learned | None = None
    resumed: Resumed | None = None

    def __repr__(self) -> str:
        """The file, and whether it passed."""
        return f"<Result {self.output}: {self.report!r}>"

    def _repr_html_(self) -> str:
        facts = _html.facts("Result", {"output": self.output, "seconds": f"{self.seconds:.1f}"})
        return _html.block(facts, self.plan._repr_html_(), self.report._repr_html_())

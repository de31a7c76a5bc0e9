"""What stands on a page, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot_onnx._costs import Costs
from bot_onnx._page.fitted import Fitted
from bot_onnx._page.formulas import PartFormulas
from bot_onnx._page.sliders import Sliders
from bot_onnx._page.told import is_from
from bot_onnx._structure import Structure


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one model file.

    Attributes:
        path: how it was called. size_bytes: of the file, weights beside it included.
        opset, producer: as the file gives them. ports: inputs and outputs as (name, type and shape).
        sha256: of the file. structure, costs: of the analysis. metadata: of the file.
        quantised: its weights are; bytes of weights count them as floats, as a resize stores them.
        seconds: median time of a run, None: not measured.
    """

    path: str
    size_bytes: int
    opset: int
    producer: str
    ports: tuple[tuple[str, str, str], ...]
    sha256: str
    structure: Structure
    costs: Costs
    metadata: Mapping[str, str]
    quantised: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a page shows.

    Attributes:
        model: what it is of. source: what that is held against, if anything.
        told: facts of how the file was made, by label.
        kept: share of the energy of a stack that is kept along its widths, by its id in the source; of others it is
            not known.
        sliders, formulas: what can be turned, and what follows.
        fitted: what ``fit`` found, if it was given. threads: of timed runs.
    """

    model: Facts
    source: Facts | None
    told: Mapping[str, str]
    kept: Mapping[str, float]
    sliders: Sliders
    formulas: tuple[PartFormulas, ...]
    fitted: Fitted | None = None
    threads: int = 1

    @property
    def told_from_source(self) -> bool:
        """Whether the file says that it was resized from what it is held against."""
        return self.source is not None and is_from(self.model.metadata, self.source.sha256) is not None


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was made.

    Attributes:
        html: the page. output: where it was written, None: nowhere.
        data: what the page's own script computes with: parts, sliders and their polynomials.
    """

    html: str = field(repr=False)
    output: Path | None
    data: Mapping[str, Any] = field(repr=False)

    def _repr_html_(self) -> str:
        from bot_onnx import _html

        where = "not written" if self.output is None else str(self.output)
        return _html.facts("Report", {"output": where, "bytes": len(self.html.encode())})

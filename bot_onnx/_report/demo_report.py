"""The table of the demo: the shipped model, smaller, larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from bot_onnx._report.layout import cell, table
from bot_onnx._report.units import count, seconds, size


@dataclass(frozen=True, slots=True)
class DemoRow:
    """What was measured of one model.

    Attributes:
        name: of the row.
        layers: of its chain.
        dims: size by name of those dims that make its width.
        parameters: number of weights. size_bytes: of the file.
        latency: median seconds for the batch of all held-out images.
        accuracy: share of the images it gets right.
        kept: share of the images with the same prediction as the source model's; None for the source itself.
        difference: largest absolute difference of a logit from the source's; None for the source itself.
    """

    name: str
    layers: int
    dims: dict[str, int]
    parameters: int
    size_bytes: int
    latency: float
    accuracy: float
    kept: float | None
    difference: float | None


def demo_report(rows: Sequence[DemoRow], images: int) -> Table:
    """One column a model, one row a measurement: it fits 80 columns."""
    made = table(f"The digit classifier, judged on {images} held-out images", ["", *(f"{row.name}>" for row in rows)])
    made.add_row("layers", *(str(row.layers) for row in rows))
    for name in dict.fromkeys(name for row in rows for name in row.dims):
        made.add_row(cell(name), *(str(row.dims.get(name, "-")) for row in rows))
    made.add_row("parameters", *(count(row.parameters) for row in rows))
    made.add_row("file", *(size(row.size_bytes) for row in rows))
    made.add_row(f"latency, batch of {images}", *(seconds(row.latency) for row in rows))
    made.add_section()
    made.add_row("accuracy", *(percent(row.accuracy) for row in rows))
    made.add_row("predictions kept", *("" if row.kept is None else _kept(row.kept) for row in rows))
    differences = ("" if row.difference is None else f"{row.difference:.2g}" for row in rows)
    made.add_row("largest change of a logit", *differences)
    return made


def percent(share: float) -> str:
    """A share in per cent; one that is not quite all never reads as 100."""
    text = f"{share * 100:.1f} %"
    return text if share == 1 or text != "100.0 %" else "> 99.9 %"


def _kept(share: float) -> Text:
    return Text(percent(share), style="green" if share == 1 else "yellow")

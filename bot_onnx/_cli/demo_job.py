"""The demo's work: shrink and grow the shipped model, and measure all three in onnxruntime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx import api
from bot_onnx._report.demo_report import DemoRow
from bot_onnx._runs.runtime import session
from bot_onnx._structure import Role, Structure
from bot_onnx.demo import HeldOut, accuracy, held_out
from bot_onnx.errors import GraphError

#: Added blocks write nothing to the residual stream and doubled channels share their readers' weights, so the larger
#: network computes the same function.
EXACT_GROWTH = {"wavelet": "haar", "convention": "value", "layer_axis": "identity", "details": "zero"}
ADDED_LAYERS = 2
RUNS = 9
_WIDTHS = (Role.HIDDEN, Role.HEADS, Role.INTERMEDIATE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo found.

    Attributes:
        rows: shipped, shrunk, grown.
        images: number of held-out images.
        checks: number of checks that the two new models passed.
    """

    rows: tuple[DemoRow, DemoRow, DemoRow]
    images: int
    checks: int

    @property
    def grown(self) -> DemoRow:
        """The row of the grown model."""
        return self.rows[2]

    @property
    def exact(self) -> bool:
        """Whether growing kept every prediction."""
        return self.grown.kept == 1


def run_demo(model: Path, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Shrink and grow ``model`` into ``folder``, and measure.

    Args:
        model: the shipped classifier.
        folder: where ``digits-vit-small.onnx`` and ``digits-vit-large.onnx`` are written.
        say: told what is going on, a line at a time.

    Raises:
        BotError: a resize was refused, or a file that was written failed its checks.
    """
    data = held_out()
    say(f"inspecting {model.name}")
    structure = api.inspect(model).structure
    sizes = _sizes(structure)
    layers, hidden = structure.chains[0].count, sizes["hidden"]

    say(f"shrinking: {layers} -> {layers // 2} layers, hidden {hidden} -> {hidden // 2}")
    small = api.resize(model, {"layers": layers // 2, "hidden": hidden // 2}, folder / "digits-vit-small.onnx")
    say(f"growing: {layers} -> {layers + ADDED_LAYERS} layers, hidden {hidden} -> {hidden * 2}")
    large = api.resize(
        model,
        {"layers": layers + ADDED_LAYERS, "hidden": hidden * 2},
        folder / "digits-vit-large.onnx",
        options=EXACT_GROWTH,
    )
    say(f"running all three on {len(data.labels)} held-out images")
    logits, latency = _measure(model, data)
    first = DemoRow(
        "shipped", layers, sizes, structure.parameters, model.stat().st_size, latency,
        accuracy(logits, data.labels), None, None,
    )  # fmt: skip
    rows = (first, _row("shrunk", small, data, logits), _row("grown", large, data, logits))
    passed = sum(check.status == "pass" for result in (small, large) for check in result.report.checks)
    return Outcome(rows, len(data.labels), passed)


def _sizes(structure: Structure) -> dict[str, int]:
    sizes = {dim.name: dim.size for dim in structure.dims.values() if dim.role in _WIDTHS}
    if not structure.chains or "hidden" not in sizes:
        raise GraphError("the demo's model shows no layers or no hidden dim; reinstall bot-onnx, its data is damaged")
    return sizes


def _row(name: str, result: api.Result, data: HeldOut, reference: NDArray[Any]) -> DemoRow:
    logits, latency = _measure(result.output, data)
    plan = result.plan
    return DemoRow(
        name=name,
        layers=plan.layers[0].target,
        dims={dim.name: dim.target for dim in plan.dims if dim.role in _WIDTHS},
        parameters=plan.parameters[1],
        size_bytes=result.output.stat().st_size,
        latency=latency,
        accuracy=accuracy(logits, data.labels),
        kept=float(np.mean(logits.argmax(axis=1) == reference.argmax(axis=1))),
        difference=float(np.abs(logits - reference).max()),
    )


def _measure(model: Path, data: HeldOut) -> tuple[NDArray[Any], float]:
    """Logits (images, classes) of one batch with all the images, and the median seconds it takes."""
    runner = session(str(model), optimise=True)
    feeds = data.feeds()
    logits: NDArray[Any] = runner.run(None, feeds)[0]
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        runner.run(None, feeds)
        times.append(time.perf_counter() - started)
    return logits, statistics.median(times)

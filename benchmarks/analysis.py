"""Times the analysis of a graph against its number of nodes, next to ONNX's own shape inference.

For every size one synthetic BERT is built and written; then, after one warm-up each, opening and analysing it takes
turns with ``onnx.load`` + ``onnx.shape_inference``, and the medians are compared::

    python -m benchmarks.analysis --json analysis.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.synthetic import with_nodes

SIZES = (300, 1_200, 2_500, 5_000, 10_000)


@dataclass(frozen=True, slots=True)
class Timing:
    """One graph size, all times in seconds.

    Attributes:
        nodes: nodes in the file, Constant nodes included.
        constants: how many of them are Constant nodes.
        seconds: every run of the analysis.
        baseline_seconds: every run of onnx.load + shape inference.
    """

    nodes: int
    constants: int
    seconds: tuple[float, ...]
    baseline_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median time of the analysis."""
        return statistics.median(self.seconds)

    @property
    def baseline(self) -> float:
        """Median time of the baseline."""
        return statistics.median(self.baseline_seconds)

    @property
    def microseconds_per_node(self) -> float:
        """Median time of the analysis over the number of nodes."""
        return 1e6 * self.median / self.nodes

    @property
    def ratio(self) -> float:
        """How many times as long as the baseline the analysis takes."""
        return self.median / self.baseline


def growth(timings: Sequence[Timing]) -> float:
    """Exponent p of a least-squares fit of time = c · nodesᵖ in logarithms: 1 is linear, 2 is quadratic.

    Raises:
        ValueError: fewer than two different sizes.
    """
    return statistics.linear_regression(
        [math.log(timing.nodes) for timing in timings], [math.log(timing.median) for timing in timings]
    ).slope


def alternate(actions: Sequence[Callable[[], object]], runs: int) -> list[tuple[float, ...]]:
    """Times every action ``runs`` times after one uncounted call, taking turns so that a slow spell hits them all."""
    for action in actions:
        action()
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(runs):
        for action, times in zip(actions, seconds, strict=True):
            start = time.perf_counter()
            action()
            times.append(time.perf_counter() - start)
    return [tuple(times) for times in seconds]


def infer_shapes(path: Path) -> object:
    """The baseline: load the file, infer every static shape."""
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def measure(target: int, folder: Path, runs: int) -> Timing:
    """Builds the graph nearest to ``target`` nodes and times both ways of reading it."""
    # Imported here so that the generator and the table can be used without the engine's dependencies.
    from bot_onnx._analysis.passes import analyse
    from bot_onnx._onnxfile.reader import open_model

    model = with_nodes(target)
    path = folder / f"{target}.onnx"
    onnx.save(model, path)
    constants = sum(node.op_type == "Constant" for node in model.graph.node)
    seconds, baseline = alternate((lambda: analyse(open_model(path).model()), lambda: infer_shapes(path)), runs)
    return Timing(len(model.graph.node), constants, seconds, baseline)


def table(timings: Sequence[Timing]) -> Table:
    """One row a size."""
    result = Table(title="analysis of a synthetic BERT")
    for heading in ("nodes", "of them Constant", "seconds", "µs per node", "load + infer_shapes, s", "ratio"):
        result.add_column(heading, justify="right")
    for timing in timings:
        result.add_row(
            f"{timing.nodes:,}",
            f"{timing.constants:,}",
            f"{timing.median:.3f}",
            f"{timing.microseconds_per_node:.1f}",
            f"{timing.baseline:.3f}",
            f"{timing.ratio:.1f}",
        )
    return result


def as_json(timings: Sequence[Timing]) -> dict[str, object]:
    """Everything in the table, with every single run and the environment."""
    rows = [
        asdict(timing)
        | {
            "median_seconds": timing.median,
            "median_baseline_seconds": timing.baseline,
            "microseconds_per_node": timing.microseconds_per_node,
            "ratio": timing.ratio,
        }
        for timing in timings
    ]
    exponent = growth(timings) if len(timings) > 1 else None
    return {"benchmark": "analysis", "environment": environment(), "growth_exponent": exponent, "sizes": rows}


def main() -> None:
    """Runs every size and prints the table."""
    parser = argparse.ArgumentParser(description="Time graph analysis against the number of nodes.")
    parser.add_argument("--nodes", type=int, nargs="+", default=list(SIZES), metavar="N", help="sizes to time")
    parser.add_argument("--runs", type=int, default=3, help="timed runs per size, after one warm-up (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run here")
    options = parser.parse_args()
    if options.runs < 1 or min(options.nodes) < 1:
        parser.error("--runs and --nodes must be at least 1")
    console, timings = Console(), []
    with tempfile.TemporaryDirectory(prefix="bot-onnx-bench-") as folder:
        for target in sorted(set(options.nodes)):
            timings.append(measure(target, Path(folder), options.runs))
    console.print(table(timings))
    if len(timings) > 1:
        console.print(f"time grows as nodes^{growth(timings):.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(timings), indent=2) + "\n")


if __name__ == "__main__":
    main()

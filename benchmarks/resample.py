"""Times the resampling of weight stacks along all three axes, next to PyWavelets, ptwt and a plain copy.

Shrinking halves layers, rows and columns: the low band of ``pywt.dwtn``. Growing doubles them, to the same sizes:
``pywt.idwtn`` without details. Both results are compared with PyWavelets' before anything is timed::

    python -m benchmarks.resample --threads 2 --json resample.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pywt
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.environment import environment
from bot_onnx._resample.operators import Filters
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import Axis, StackTask

Shape = tuple[int, int, int]
Direction = Literal["shrink", "grow"]
Floats = NDArray[np.float32]
Action = Callable[[], object]

#: The larger side of both directions: BERT-base's attention and MLP, a BERT-large MLP, an MLP between sizes.
STACKS: tuple[Shape, ...] = ((12, 768, 768), (12, 768, 3072), (24, 1024, 4096), (30, 576, 1536))
WAVELETS = ("haar", "db2", "coif3", "bior6.8")
MODE = "periodization"
#: Largest difference from PyWavelets, both in float32, on standard normal values.
TOLERANCE = 1e-5
#: Seconds of rest before every timed call: threads of the call before may go on spinning for work (OpenMP, 0.2 s).
REST = 0.25
#: Variables that BLAS libraries and bot-onnx read when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Timing:
    """One stack, wavelet and direction; every run in seconds, by competitor.

    Attributes:
        shape: the larger side: source when shrinking, result when growing.
        wavelet: its name.
        direction: ``shrink`` or ``grow``.
        error: largest absolute difference from PyWavelets.
        runs: ``bot-onnx``, ``copy``, ``pywt`` and, where it is installed, ``ptwt``.
    """

    shape: Shape
    wavelet: str
    direction: Direction
    error: float
    runs: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float | None:
        """Median seconds of a competitor, None where it did not take part."""
        return statistics.median(self.runs[name]) if name in self.runs else None

    def ratio(self, over: str, under: str) -> float | None:
        """Median of one over the median of another."""
        a, b = self.median(over), self.median(under)
        return None if a is None or b is None else a / b


def resampler(shape: Shape, wavelet: str, direction: Direction) -> Callable[[Floats], Floats]:
    """bot-onnx's own transform of a tensor with three plain axes, amplitudes as PyWavelets gives them."""
    halves = [n // 2 for n in shape]
    sizes = zip(shape, halves, strict=True) if direction == "shrink" else zip(halves, shape, strict=True)
    axes = tuple(Axis("leaf", source, target) for source, target in sizes)
    task = StackTask("stack", "benchmark", "matrix", axes, ("out", "out", "in"))
    transform = WidthTransform(task, Filters(wavelet, wavelet), "ortho")

    def resample(x: Floats) -> Floats:
        result: Floats = transform.apply(x, np)
        return result

    return resample


def pywavelets(x: Floats, wavelet: str, direction: Direction) -> Floats:
    """The same by PyWavelets, which always computes all eight bands when shrinking."""
    if direction == "shrink":
        low: Floats = pywt.dwtn(x, wavelet, mode=MODE)["aaa"]
        return low
    grown: Floats = pywt.idwtn({"aaa": x}, wavelet, mode=MODE)
    return grown


def torch_wavelets(shape: Shape, wavelet: str, direction: Direction, threads: int) -> Action | None:
    """ptwt's three-dimensional transform on the CPU, or None where it is not installed.

    It has no periodization: its bands are larger by half a filter on each axis, filled with zeros here.
    """
    try:
        ptwt, torch = importlib.import_module("ptwt"), importlib.import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(threads)
    if direction == "shrink":
        x = torch.randn(1, *shape)
        return lambda: ptwt.wavedec3(x, wavelet, mode="zero", level=1)
    taps = pywt.Wavelet(wavelet).rec_len
    low = torch.randn(1, *((n + taps - 1) // 2 for n in shape))
    details = {key: torch.zeros_like(low) for key in ("aad", "ada", "add", "daa", "dad", "dda", "ddd")}
    return lambda: ptwt.waverec3((low, details), wavelet)


def take_turns(
    actions: Mapping[str, Action], runs: int, patience: float, rest: float = REST
) -> dict[str, tuple[float, ...]]:
    """Times every action ``runs`` times after one uncounted call, in turns so that a slow spell hits them all.

    What takes longer than ``patience`` seconds is not called again: its first call counts.
    """
    first = {name: _seconds(action) for name, action in actions.items()}
    times: dict[str, list[float]] = {name: [t] if t > patience else [] for name, t in first.items()}
    for _ in range(runs):
        for name, action in actions.items():
            if first[name] <= patience:
                time.sleep(rest)
                times[name].append(_seconds(action))
    return {name: tuple(measured) for name, measured in times.items()}


def _seconds(action: Action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(
    shape: Shape, wavelet: str, direction: Direction, *, runs: int, threads: int, patience: float, ptwt: bool = True
) -> Timing:
    """Compare one result with PyWavelets', then time all of them.

    Raises:
        ArithmeticError: the results differ by more than :data:`TOLERANCE`.
    """
    large = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    source = large if direction == "shrink" else np.ascontiguousarray(large[tuple(slice(n // 2) for n in shape)])
    ours = resampler(shape, wavelet, direction)
    error = float(np.abs(ours(source) - pywavelets(source, wavelet, direction)).max())
    if not error <= TOLERANCE:
        raise ArithmeticError(f"{shape} {wavelet} {direction}: differs from PyWavelets by {error:.2g}, time no more")
    actions: dict[str, Action] = {
        "bot-onnx": lambda: ours(source),
        "copy": lambda: np.copy(large),
        "pywt": lambda: pywavelets(source, wavelet, direction),
    }
    rival = torch_wavelets(shape, wavelet, direction, threads) if ptwt else None
    if rival is not None:
        actions["ptwt"] = rival
    return Timing(shape, wavelet, direction, error, take_turns(actions, runs, patience))


def table(timings: Sequence[Timing], threads: int) -> Table:
    """One row a measurement."""
    result = Table(title=f"resampling along three axes, float32, {threads} threads; medians")
    for heading in ("stack", "", "wavelet"):
        result.add_column(heading)
    for heading in ("bot-onnx, ms", "copy, ms", "to copy", "pywt, ms", "pywt / ours", "ptwt, ms", "ptwt / ours"):
        result.add_column(heading, justify="right")
    for timing in timings:
        result.add_row(
            "x".join(map(str, timing.shape)),
            timing.direction,
            timing.wavelet,
            _cell(timing.median("bot-onnx"), 1e3),
            _cell(timing.median("copy"), 1e3),
            _cell(timing.ratio("bot-onnx", "copy")),
            _cell(timing.median("pywt"), 1e3),
            _cell(timing.ratio("pywt", "bot-onnx")),
            _cell(timing.median("ptwt"), 1e3),
            _cell(timing.ratio("ptwt", "bot-onnx")),
        )
    return result


def _cell(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:,.1f}"


def as_json(timings: Sequence[Timing], threads: int) -> dict[str, object]:
    """Everything in the table, with every single run and the environment."""
    rows: list[dict[str, Any]] = [
        asdict(timing)
        | {
            "median_seconds": {name: timing.median(name) for name in timing.runs},
            "best_seconds": {name: min(times) for name, times in timing.runs.items()},
            "ratios": {
                "to_copy": timing.ratio("bot-onnx", "copy"),
                "pywt": timing.ratio("pywt", "bot-onnx"),
                "ptwt": timing.ratio("ptwt", "bot-onnx"),
            },
        }
        for timing in timings
    ]
    surroundings = environment() | {"threads": threads, "cpu": _processor()}
    for package in ("torch", "ptwt"):
        try:
            surroundings[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"benchmark": "resample", "environment": surroundings, "measurements": rows}


def _processor() -> str | None:
    """Model name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _shape(text: str) -> Shape:
    sizes = tuple(int(part) for part in text.split("x"))
    if len(sizes) != 3 or any(n < 2 or n % 2 for n in sizes):
        raise argparse.ArgumentTypeError(f"'{text}' is not three even sizes such as 12x768x3072")
    return sizes[0], sizes[1], sizes[2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the resampling of weight stacks.")
    parser.add_argument("--stacks", type=_shape, nargs="+", default=list(STACKS), metavar="LxOxI")
    parser.add_argument("--wavelets", nargs="+", default=list(WAVELETS), metavar="NAME")
    parser.add_argument("--directions", nargs="+", default=["shrink", "grow"], choices=["shrink", "grow"])
    parser.add_argument("--threads", type=int, default=2, help="of bot-onnx, BLAS and torch (default 2)")
    parser.add_argument("--runs", type=int, default=7, help="timed runs, after one warm-up (default 7)")
    parser.add_argument(
        "--patience", type=float, default=5.0, help="what takes longer runs once, seconds (default 5)", metavar="S"
    )
    parser.add_argument("--no-ptwt", action="store_true", help="leave ptwt out even where it is installed")
    parser.add_argument("--quick", action="store_true", help="the first stack only, three runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run here")
    return parser.parse_args()


def _restart_with(threads: int) -> None:
    """Start the script over with the number of threads in the environment: libraries read it once, when loaded."""
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.resample", *sys.argv[1:]], os.environ | wanted)


def main() -> None:
    """Runs every combination and prints the table."""
    options = _arguments()
    _restart_with(options.threads)
    stacks, runs = (options.stacks[:1], 3) if options.quick else (options.stacks, options.runs)
    combinations = [(s, w, d) for d in options.directions for s in stacks for w in options.wavelets]
    timings = []
    for one in track(combinations, "measuring", console=Console(stderr=True), transient=True):
        timings.append(
            measure(*one, runs=runs, threads=options.threads, patience=options.patience, ptwt=not options.no_ptwt)
        )
        if options.json:  # after each one: a run over all of them takes long, and may be broken off
            options.json.write_text(json.dumps(as_json(timings, options.threads), indent=2) + "\n")
    Console(width=None if sys.stdout.isatty() else 140).print(table(timings, options.threads))


if __name__ == "__main__":
    main()

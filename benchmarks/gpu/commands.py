"""Whole commands, the weights computed on the CPU and on a CUDA device: BERT-base to BERT-S, and to twice its width.

python -m benchmarks.gpu.commands --json commands.json
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.gpu.rows import add_row
from benchmarks.whole_command import CACHE, CommandError, bert_base, measure

COMMANDS = {
    "BERT-base to BERT-S": ("--spec", "bert-s"),
    "BERT-base to BERT-S, bior6.8": ("--spec", "bert-s", "--wavelet", "bior6.8"),
    "BERT-base to twice its width": ("--hidden", "1536", "--heads", "24", "--intermediate", "6144"),
}


def largest_difference(first: Path, second: Path) -> float:
    """Of all weights of two files, over the largest weight of their tensor."""
    worst = 0.0
    pairs = zip(*(onnx.load(path).graph.initializer for path in (first, second)), strict=True)
    for a, b in pairs:
        x, y = numpy_helper.to_array(a), numpy_helper.to_array(b)
        if x.dtype.kind == "f" and x.size:
            worst = max(worst, float(np.abs(x - y).max()) / max(1e-30, float(np.abs(x).max())))
    return worst


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), required=True, help="Rows are added to this file.")
@click.option("--runs", default=3, show_default=True, help="Timed runs of each, after one warm-up.")
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--device", "devices", multiple=True, default=("cpu", "cuda"), show_default=True)
def main(path: Path, runs: int, cache: Path, devices: tuple[str, ...]) -> None:
    """Measure all of it."""
    path.unlink(missing_ok=True)
    try:
        source = bert_base(cache.resolve())
        for label, options in COMMANDS.items():
            with tempfile.TemporaryDirectory(prefix="out-", dir=cache.resolve()) as folder:
                outputs = {device: Path(folder, f"{device}.onnx") for device in devices}
                resize = [sys.executable, "-m", "bot_onnx", "resize", str(source), *options, "--force"]
                commands = {d: ([*resize, "--device", d, "-o", str(out)], out) for d, out in outputs.items()}
                found = measure(commands, runs)
                apart = max(largest_difference(outputs[devices[0]], out) for out in outputs.values())
            for one in found:
                row = {"what": f"{label}, {one.label}", "seconds": one.seconds, "CPU s": one.cpu_seconds}
                row |= {"GB peak": one.peak_bytes / 1e9, "speed-up": found[0].seconds / one.seconds}
                add_row(path, row | {"largest difference": 0.0 if one is found[0] else apart})
    except CommandError as error:
        raise SystemExit(f"commands: {error}") from error


if __name__ == "__main__":
    main()

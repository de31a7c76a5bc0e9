"""What an alignment is worth on the shipped classifier: accuracy straight after resizing, and the energy kept.

python -m benchmarks.align
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out, model_file
from bot_onnx.errors import ResampleError

KINDS = ("none", "permute", "rotate")
TARGETS: dict[str, dict[str, Any]] = {
    "hidden 32 (heads, neurons halved), 6 layers": {"hidden": 32},
    "the same, 3 layers": {"hidden": 32, "layers": 3},
    "hidden 48": {"hidden": 48},
    "neurons halved only": {"intermediate": 128},
}


SAMPLES = 120  #: of the held-out digits, for the calibration; accuracy is that on the others


def measured(
    model: Path, spec: dict[str, Any], kind: Any, folder: Path, calibration: Path | None = None
) -> float | None:
    """Held-out accuracy of the model resized to ``spec``; None where the alignment is refused."""
    images = held_out()
    out = folder / "resized.onnx"
    try:
        bot_onnx.resize(model, spec, out, align=kind, calibration=calibration, force=True)
    except ResampleError:
        return None
    (logits,) = session(str(out)).run(None, {name: array[SAMPLES:] for name, array in images.feeds().items()})
    return accuracy(logits, images.labels[SAMPLES:])


def main() -> None:
    """Print both tables."""
    console = Console()
    with model_file() as model, tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.npz"
        np.savez(samples, **{name: array[:SAMPLES] for name, array in held_out().feeds().items()})
        table = Table("target", *KINDS, "rotate on samples", title="accuracy on held-out digits, no training")
        for name, spec in TARGETS.items():
            row = [measured(model, spec, kind, Path(folder)) for kind in KINDS]
            row.append(measured(model, spec, "rotate", Path(folder), samples))
            table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in row))
        console.print(table)
        kept = Table("alignment", "method", "mean share of energy kept", title="every free dim halved, all stacks")
        for entry in bot_onnx.energy(model):
            kept.add_row(entry.kind, entry.method, f"{entry.mean:.3f}")
        console.print(kept)


if __name__ == "__main__":
    main()

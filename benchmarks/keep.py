"""What choosing is worth on the shipped classifier: accuracy straight after resizing, by criterion.

python -m benchmarks.keep
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.align import SAMPLES, measured
from bot_onnx.demo import held_out, model_file

UNITS: dict[str, dict[str, Any]] = {
    "neurons halved": {"intermediate": 128},
    "neurons to a quarter": {"intermediate": 64},
    "heads halved": {"heads": 2, "hidden": 64},
    "heads and neurons halved": {"heads": 2, "intermediate": 128, "hidden": 64},
    "hidden 48, heads and neurons in proportion": {"hidden": 48},
}
CRITERIA = ("energy", "magnitude", "activation")
DEPTHS = (5, 4, 3)


def main() -> None:
    """Print both tables."""
    console = Console()
    with model_file() as model, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        samples = folder / "samples.npz"
        np.savez(samples, **{name: array[:SAMPLES] for name, array in held_out().feeds().items()})

        def row(spec: dict[str, Any], align: str | None = None, *, seen: bool = False) -> str:
            found = measured(model, spec, align, folder, samples if seen else None)
            return "-" if found is None else f"{found:.3f}"

        table = Table("target", "none", "permute", *CRITERIA, title="accuracy on held-out digits, no training")
        for name, spec in UNITS.items():
            chosen = [row({**spec, "keep": keep}, seen=keep == "activation") for keep in CRITERIA]
            table.add_row(name, row(spec, "none"), row(spec, "permute"), *chosen)
        console.print(table)
        table = Table("layers", "default", "even", "influence", title="of 6 layers, the same")
        for depth in DEPTHS:
            ways = [row({"layers": depth, "layers_by": by}, seen=by == "influence") for by in ("even", "influence")]
            table.add_row(str(depth), row({"layers": depth}), *ways)
        console.print(table)


if __name__ == "__main__":
    main()

"""What choosing is worth on the shipped classifier: accuracy straight after resizing, by criterion and refit.

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

#: Sizes, and the alignment where it is not left to the method.
UNITS: dict[str, tuple[dict[str, Any], str | None]] = {
    "neurons halved": ({"intermediate": 128}, None),
    "neurons to a quarter": ({"intermediate": 64}, None),
    "heads halved": ({"heads": 2, "hidden": 64}, None),
    "heads and neurons halved": ({"heads": 2, "intermediate": 128, "hidden": 64}, None),
    "hidden 48, heads and neurons in proportion (turned first)": ({"hidden": 48}, None),
    "the same, channels chosen (--align select)": ({"hidden": 48}, "select"),
}
CRITERIA = ("energy", "magnitude", "activation", "taylor")
REFITS = (None, "bias", "readers")
LOOKING = ("activation", "taylor")
DEPTHS = (5, 4, 3)


def main() -> None:
    """Print both tables."""
    console = Console(width=200)
    with model_file() as model, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        samples = folder / "samples.npz"
        np.savez(samples, **{name: array[:SAMPLES] for name, array in held_out().feeds().items()})

        def row(spec: dict[str, Any], align: str | None = None, *, seen: object = False) -> str:
            found = measured(model, spec, align, folder, samples if seen else None)
            return "-" if found is None else f"{found:.3f}"

        def refitted(spec: dict[str, Any], keep: str, align: str | None) -> str:
            """Without, with biases, with readers that make up for what goes."""
            return " / ".join(
                row({**spec, "keep": keep, **({"refit": refit} if refit else {})}, align, seen=refit or keep in LOOKING)
                for refit in REFITS
            )

        title = "accuracy on held-out digits, no training: as chosen / --refit bias / --refit readers"
        table = Table("target", "none", "permute", *CRITERIA, title=title)
        for name, (spec, align) in UNITS.items():
            chosen = [refitted(spec, keep, align) for keep in CRITERIA]
            table.add_row(name, row(spec, "none"), row(spec, "permute"), *chosen)
        console.print(table)
        table = Table("layers", "default", "even", "influence", title="of 6 layers, the same")
        for depth in DEPTHS:
            ways = [row({"layers": depth, "layers_by": by}, seen=by == "influence") for by in ("even", "influence")]
            table.add_row(str(depth), row({"layers": depth}), *ways)
        console.print(table)


if __name__ == "__main__":
    main()

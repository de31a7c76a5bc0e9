"""What each choice of a shrinking is worth by itself, straight after it: one size at a time, nothing trained.

python -m benchmarks.real.choices --model smollm        # ten minutes of a core
python -m benchmarks.real.choices --model minilm-3x192
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np

import bot_onnx
from benchmarks.environment import cache_folder
from benchmarks.real.models import MODELS
from benchmarks.real.network import Real


@dataclass(frozen=True, slots=True)
class Choice:
    """A size that goes, and how what stays is chosen.

    Attributes:
        name: of the row. spec: what :func:`bot_onnx.resize` is asked for. seen: whether it is given samples.
        pinned: whether channels may be left out of the turn, as it is without this benchmark.
    """

    name: str
    spec: Mapping[str, Any]
    seen: bool
    pinned: bool = True


def _both(name: str, **spec: Any) -> list[Choice]:
    return [Choice(f"{name}, {'on' if seen else 'without'} samples", spec, seen) for seen in (True, False)]


_HIDDEN = {"hidden": 384, "heads": 9, "kv_heads": 3, "intermediate": 1536}
_KEEPS = ("wanda", "activation", "energy")
CHOICES: dict[str, list[Choice]] = {
    "smollm": [
        *_both("neurons 1536 to 1024", intermediate=1024),
        *_both("heads 9 to 6, of keys 3 to 2", heads=6, kv_heads=2, hidden=576),
        *_both("hidden 576 to 384", **_HIDDEN),
        *(Choice(f"{each.name}, no channel pinned", each.spec, each.seen, False) for each in _both("same", **_HIDDEN)),
    ],
    "minilm-3x192": [
        *(Choice(f"3 x 192, `--keep {keep}`", {"layers": 3, "hidden": 192, "keep": keep}, True) for keep in _KEEPS),
        *(
            Choice(f"{layers} layers, {by}", {"layers": layers, "layers_by": by}, by == "influence")
            for layers in (4, 3, 2)
            for by in ("influence", "even")
        ),
    ],
}


def measured(real: Real, choice: Choice, folder: Path) -> dict[str, float]:
    """The qualities of the network made so, by name of the measure."""
    output = folder / "made.onnx"
    none = mock.patch("bot_onnx._align.rotate.outliers", lambda *_: np.zeros(0, dtype=np.intp))
    with nullcontext() if choice.pinned else none:
        bot_onnx.resize(
            real.source,
            dict(choice.spec),
            output,
            calibration=real.samples if choice.seen else None,
            against=False,
            force=True,
        )
    return {name: run(output) for name, run in real.measures.items()}


@click.command()
@click.option("--model", "key", type=click.Choice(list(CHOICES)), required=True)
def main(key: str) -> None:
    """Print a row a choice as soon as it is measured, the source first."""
    real = MODELS[key](cache_folder("real"))
    click.echo("| | " + " | ".join(real.measures) + " |\n|---|" + "---|" * len(real.measures))
    click.echo(_line("source", {name: run(real.source) for name, run in real.measures.items()}))
    with tempfile.TemporaryDirectory() as folder:
        for choice in CHOICES[key]:
            click.echo(_line(choice.name, measured(real, choice, Path(folder))))


def _line(name: str, found: Mapping[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in found.values()) + " |"


if __name__ == "__main__":
    main()

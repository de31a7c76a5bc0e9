"""What recovering brings: the demo's ViT, halved by ``bot`` and by ``scratch``, and trained for the same steps.

    python -m benchmarks.recover --write   # puts the table into docs/recover.md; a minute of one core

Each student is trained by ``bot-onnx recover`` on the same data with the same seed. Networks that others ship, and
longer trainings: ``python -m benchmarks.real``. Needs the extras ``recover`` and ``test``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bot_onnx
from benchmarks.measured import DOCS, told_of_run, write_measured
from bot_onnx._recover.jobs import Settings, recover
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out, model_bytes

PAGE = DOCS / "recover.md"
STARTS = ("bot", "scratch")
SPEC = {"layers": 3, "hidden": 32}


@dataclass(frozen=True, slots=True)
class Row:
    """One network.

    Attributes:
        name: start, and before or after the training. parameters: how many.
        accuracy: on the demo's test images. agreement: part of the images kept apart while training where it answers
            as the source does.
    """

    name: str
    parameters: int
    accuracy: float
    agreement: float | None


def correct(path: Path) -> float:
    """Accuracy on the demo's test images."""
    test = held_out()
    return accuracy(session(str(path)).run(None, test.feeds())[0], test.labels)


def parameters(path: Path) -> int:
    """Of a network."""
    return bot_onnx.inspect(path).structure.parameters


def study(folder: Path, settings: Settings) -> tuple[list[Row], str]:
    """Halve the source from every start, train, and measure; and in words, how it was trained."""
    from benchmarks.train_digits_vit import digits

    source, data = folder / "digits_vit.onnx", folder / "digits.npz"
    source.write_bytes(model_bytes())
    np.savez(data, image=digits(0)[0].images.numpy())
    rows, minutes = [Row("source", parameters(source), correct(source), None)], []
    for method in STARTS:
        small, output = folder / f"{method}.onnx", folder / f"{method}-after.onnx"
        bot_onnx.resize(source, SPEC, small, method=method, against=False)
        print(f"{method}: {settings.steps} steps", file=sys.stderr, flush=True)
        result = recover(small, source, data, output, settings=settings)
        for when, model, quality in (("before", small, result.before), ("after", output, result.after)):
            rows.append(Row(f"{method}, {when}", parameters(model), correct(model), quality[0].agreement))
        minutes.append(f"{result.seconds / 60:.1f}")
    how = (
        f"{settings.steps:,} steps of {settings.batch} samples at a rate of {settings.rate:g}, seed {settings.seed}, "
        f"{result.samples:,} samples trained on, {result.held_out:,} held out; {' and '.join(minutes)} minutes "
        f"({', '.join(STARTS)})."
    )
    return rows, how


def table(rows: list[Row], how: str) -> str:
    """As Markdown, with the command and the machine."""
    lines = [
        "| digits | parameters | accuracy (360 test images) | agreement with the source (held out) |",
        "|---|---|---|---|",
    ]
    for row in rows:
        agreement = "-" if row.agreement is None else f"{row.agreement:.3f}"
        lines.append(f"| {row.name} | {row.parameters / 1e6:.3g} M | {row.accuracy:.3f} | {agreement} |")
    return "\n".join([*lines, "", how, "", told_of_run("benchmarks.recover")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/recover.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = table(*study(Path(folder), Settings(steps=given.steps, batch=32, rate=1e-3, threads=1)))
    print(told)
    if given.write:
        write_measured(PAGE, told)


if __name__ == "__main__":
    main()

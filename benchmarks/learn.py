"""What learned operators bring as a start: the demo's ViT, operators first and weights then, beside weights alone.

    python -m benchmarks.learn --seeds 3  # prints the table; two minutes of one core a seed
    python -m benchmarks.learn --write    # puts it into docs/learn.md

Every row has the same number of steps on the same 1,437 digits, none of them the demo's test images: STEPS of the
operators (``resize --learn``) and the rest of the weights (``recover``), or all of them of the weights.
Needs the extras ``recover`` and ``test``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bot_onnx
from benchmarks.measured import DOCS, told_of_run, write_measured
from bot_onnx._recover.jobs import Settings, recover
from bot_onnx._request import Learning
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out, model_bytes

PAGE = DOCS / "learn.md"
STEPS, RATE = 100, 3e-3
TARGETS: dict[str, dict[str, int]] = {
    "6 x 64 to 3 x 32": {"layers": 3, "hidden": 32},
}


@dataclass(frozen=True, slots=True)
class Way:
    """How the steps are spent: with operators learned first or not, mixed or not."""

    name: str
    learned: bool
    mix: bool = False


WAYS = (Way("weights alone", False), Way("operators first", True), Way("operators first, mixed", True, True))


def digits(path: Path) -> None:
    """Write the digits of scikit-learn but the demo's test images."""
    from sklearn.datasets import load_digits

    everything = load_digits().images.astype(np.float32)[:, None]
    apart = {image.tobytes() for image in held_out().images}
    np.savez(path, image=np.stack([image for image in everything if image.tobytes() not in apart]))


def correct(path: Path) -> float:
    """Accuracy on the demo's test images."""
    test = held_out()
    return accuracy(session(str(path)).run(None, test.feeds())[0], test.labels)


def measure(folder: Path, target: dict[str, int], way: Way, more: tuple[int, ...], seed: int) -> list[float]:
    """Accuracy after STEPS steps, and after ``more`` steps of the weights beyond."""
    start = folder / "start.onnx"
    learn: dict[str, Any] | None = {"steps": STEPS, "data": folder / "digits.npz", "mix": way.mix}
    request = bot_onnx.ResizeRequest(target, seed=seed, learn=learn if way.learned else None, against=False)
    bot_onnx.open(folder / "source.onnx").resize(request, start, force=True)
    scores = [correct(start)] if way.learned else []
    for steps in [*([] if way.learned else [0]), *more]:
        settings = Settings(steps=steps if way.learned else steps + STEPS, rate=RATE, seed=seed, threads=1)
        out = folder / "out.onnx"
        recover(start, folder / "source.onnx", folder / "digits.npz", out, settings=settings, force=True, restart=True)
        scores.append(correct(out))
    print(way.name, f"seed {seed}", *(f"{score:.3f}" for score in scores), flush=True)
    return scores


def tables(more: tuple[int, ...], seeds: range) -> str:
    """The tables as Markdown."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source.onnx").write_bytes(model_bytes())
        digits(folder / "digits.npz")
        columns = [STEPS, *(STEPS + steps for steps in more)]
        for title, target in TARGETS.items():
            lines += [f"| {title} | {' | '.join(f'{steps} steps' for steps in columns)} |", "|---" * 3 + "|"]
            for way in WAYS:
                started = time.perf_counter()
                scores = np.array([measure(folder, target, way, more, seed) for seed in seeds])
                cells = (", ".join(f"{score:.3f}" for score in column) for column in scores.T)
                lines.append(f"| {way.name} | {' | '.join(cells)} |")
                print(title, lines[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
            lines.append("")
    lines.append(
        f"Accuracy on the demo's 360 test images (the source: {_source():.3f}), seeds {', '.join(map(str, seeds))}. "
        f"Operators at a rate of {Learning.RATE:g}, weights at {RATE:g}."
    )
    lines += ["", told_of_run("benchmarks.learn")]
    return "\n".join(lines)


def _source() -> float:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "source.onnx"
        path.write_bytes(model_bytes())
        return correct(path)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/learn.md")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds")
    asked = parser.parse_args()
    made = tables((200,), range(asked.seeds))
    print(made)
    if asked.write:
        write_measured(PAGE, made)


if __name__ == "__main__":
    main()

"""A training step of ``bot-onnx recover`` beside the same network in a plain PyTorch loop, and beside onnx2pytorch's.

    python -m benchmarks.recover_step [--batch 32] [--tokens 128] [--rounds 15] [--arch bert vit]

The networks are the zoo's, with random weights: ``bert`` at the size of a halved MiniLM (3 layers of 192, a vocabulary
of 30,522), ``vit`` at that of the digits' classifier. A step is forwards, a squared loss on the outputs, backwards and
AdamW. The three take turns in one process; the table has the medians, and those of the rounds' ratios.
Needs the extras ``recover`` and ``test``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import machine
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._recover.converted import Converted
from bot_onnx._recover.network import read_network
from bot_onnx._recover.student import make_student
from bot_onnx._recover.trainable import find_trainable
from tests.zoo.architectures import Size, build
from tests.zoo.architectures import feeds as feeds_of
from tests.zoo.export import export_built

SIZES = {
    "bert": Size(
        layers=3, hidden=192, heads=12, head_dim=16, kv_heads=12, intermediate=768, vocab=30522, positions=512
    ),
    "vit": Size(layers=3, hidden=32, heads=4, head_dim=8, kv_heads=4, intermediate=128),
}
Step = Callable[[], float]


def step_of(forward: Callable[[], Sequence[Any]], parameters: Sequence[Any]) -> Step:
    """A whole update by what gives the outputs."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-6)

    def step() -> float:
        started = time.perf_counter()
        loss = sum(value.square().mean() for value in forward())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
        return time.perf_counter() - started

    return step


def steps(arch: str, exporter: str, batch: int, tokens: int, folder: Path) -> dict[str, Step]:
    """The three ways to train one network on one batch."""
    size = SIZES[arch]
    built = build(arch, size)
    path = folder / f"{arch}.onnx"
    export_built(built, exporter, path)
    fed = feeds_of(arch, size, batch, tokens)
    with open_model(path) as source:
        network = read_network(source)
        trainable = find_trainable(network)
        ours, before = (make_student(network, trainable, network.outputs) for _ in range(2))
        before.carrier = Converted(network, trainable, network.outputs)
        wanted = built.module(*[torch.from_numpy(fed[name]) for name in built.input_names])
        plain = wanted if isinstance(wanted, tuple) else (wanted,)
        for name, value in zip(built.output_names, plain, strict=True):
            assert np.abs(ours(fed)[name].detach().numpy() - value.detach().numpy()).max() < 1e-4

    def straight() -> Sequence[Any]:
        made = built.module(*[torch.from_numpy(fed[name]) for name in built.input_names])
        return made if isinstance(made, tuple) else (made,)

    return {
        "plain": step_of(straight, [p for p in built.module.parameters() if p.requires_grad]),
        "bot-onnx": step_of(lambda: list(ours(fed).values()), list(ours.parameters.values())),
        "onnx2pytorch": step_of(lambda: list(before(fed).values()), list(before.parameters.values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arch", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--exporter", default="torchscript17")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | plain PyTorch (ms) | bot-onnx (ms) | of plain | onnx2pytorch, of plain |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for arch in given.arch:
            ways = steps(arch, given.exporter, given.batch, given.tokens, Path(folder))
            for step in ways.values():
                step()
            taken = [{name: step() for name, step in ways.items()} for _ in range(given.rounds)]
            plain, ours = (statistics.median(turn[name] for turn in taken) for name in ("plain", "bot-onnx"))
            ratio, before = (
                statistics.median(turn[name] / turn["plain"] for turn in taken) for name in ("bot-onnx", "onnx2pytorch")
            )
            print(f"| {arch} | {plain * 1e3:.1f} | {ours * 1e3:.1f} | {ratio:.2f} | {before:.2f} |", flush=True)
    print(f"\n{machine()}, one thread; batches of {given.batch}, {given.tokens} tokens.")


if __name__ == "__main__":
    main()

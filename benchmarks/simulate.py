"""What a resize of a Llama of 400 billion parameters would take on N machines: no weight is made or read.

The plan is that of a network with the same layers and heads and with the other widths divided, which the tool makes as
for any file; every size of it is then multiplied by what its role was divided by. A task is a layer of a stack of the
target (where queries, keys and values are made together, of all three): it reads source layers, computes, writes at
places that the plan knows, and needs no other task. Machines take the longest task left, one after the other::

    python -m benchmarks.simulate --machines 1 8 64 [--rate BYTES_PER_S] [--disk BYTES_PER_S] [--json simulate.json]

The rate (bytes read and written per second of a machine) is measured here unless it is given, on one matrix in memory.
What is not divided among machines stands beside it: the source's hash and the search for NaN, each a pass at
``--disk``. The tool has no scheduler yet: this says what one would bring.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.memory import Sizes, write_llama
from bot_onnx import api
from bot_onnx._resample import get_method, make_options
from bot_onnx._resample.depth import layer_map
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role
from bot_onnx._surgery.joined import gathered
from bot_onnx._surgery.types import Plan, StackPlan

#: Llama 3.1 405B, its head tied to its embedding here (2 of 405 billion parameters less), and half of every width.
SOURCE: Final = Sizes(16384, 128, 8, 128, 53248, 128256)
TARGET: Final = Sizes(8192, 64, 4, 128, 26624, 128256)
LAYERS: Final = (126, 63)
#: What widths are divided by, by role.
DIVIDED: Final[Mapping[str, int]] = {
    Role.HIDDEN: 256,
    Role.INTERMEDIATE: 512,
    Role.VOCAB: 256,
    Role.HEAD_DIM: 16,
    Role.V_HEAD_DIM: 16,
    Role.HALF_HEAD_DIM: 16,
}


@dataclass(frozen=True, slots=True)
class Task:
    """One layer of a stack: its name, and the bytes that it reads and writes."""

    name: str
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds until the last of ``machines`` is done, and the part of the time for which they work."""

    machines: int
    seconds: float
    busy: float


def divided(shape: Sizes) -> Sizes:
    """The shape with its widths divided."""
    return replace(
        shape,
        hidden=shape.hidden // DIVIDED[Role.HIDDEN],
        head_dim=shape.head_dim // DIVIDED[Role.HEAD_DIM],
        intermediate=shape.intermediate // DIVIDED[Role.INTERMEDIATE],
        vocab=shape.vocab // DIVIDED[Role.VOCAB],
    )


def parameters(shape: Sizes, layers: int) -> int:
    """Number of weights of a Llama with a tied head, by its formula: what the plan has to come to."""
    attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
    layer = attention + 3 * shape.hidden * shape.intermediate + 2 * shape.hidden
    return layers * layer + shape.vocab * shape.hidden + shape.hidden


def plan_of(source: Sizes, target: Sizes, layers: tuple[int, int]) -> Plan:
    """The plan of the divided networks."""
    small, wanted = divided(source), divided(target)
    spec = {"layers": layers[1], "hidden": wanted.hidden, "heads": wanted.heads, "kv_heads": wanted.kv_heads}
    spec |= {"head_dim": wanted.head_dim, "intermediate": wanted.intermediate, "vocab": wanted.vocab}
    with tempfile.TemporaryDirectory(prefix="simulate-") as folder:
        path = Path(folder) / "llama.onnx"
        write_llama(path, layers[0], sizes=small, half=True)
        return api.plan(path, spec, align="none")


def sizes(axis: Axis) -> tuple[int, int]:
    """Source and target size of an axis of a divided network, multiplied again."""
    if axis.kind == "leaf":
        times = DIVIDED.get(axis.role, 1)
        return axis.source * times, axis.target * times
    parts = [sizes(part) for part in axis.parts]
    join = prod if axis.kind == "product" else sum
    return join(part[0] for part in parts), join(part[1] for part in parts)


def layer_bytes(stack: StackPlan) -> tuple[int, int]:
    """Bytes of a layer of a stack in the source and in the target, in half precision."""
    both = [sizes(axis) for axis in stack.task.axes]
    return 2 * prod(size[0] for size in both), 2 * prod(size[1] for size in both)


def tasks_of(plan: Plan) -> Iterator[Task]:
    """Everything that a plan makes, a layer of a stack each."""
    for members in gathered(plan.stacks):
        first: StackTask = members[0].task
        rows = layer_map(
            "auto", *first.layers, wavelet="haar", residual=first.residual, place=first.name, turns=first.turns
        ).rows
        moved = [layer_bytes(member) for member in members]
        for row, target in zip(rows, members[0].targets, strict=True):
            yield Task(target, len(row) * sum(each[0] for each in moved), sum(each[1] for each in moved))


def spread(tasks: Sequence[Task], machines: int, rate: float) -> Outcome:
    """Give each machine the longest task left as soon as it is free (Graham 1969: at most a third over the best)."""
    ends = [0.0] * machines
    for seconds in sorted(((task.read + task.written) / rate for task in tasks), reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return Outcome(machines, max(ends), sum(ends) / machines / max(ends))


def measured_rate(side: int = 4096) -> float:
    """Bytes per second, read and written, of one matrix in half precision that becomes half as wide and high."""
    import numpy as np

    axis = Axis("leaf", side, side // 2)
    task = StackTask("s0", "matrix", "matrix", (axis, axis), ("in", "out"))
    weights = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32).astype(np.float16)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        (made,) = get_method("bot").resample(task, [weights.copy], make_options("bot"), xp=np, seed=0)
        written = made.astype(np.float16)
        best = min(best, time.perf_counter() - start)
    return (weights.nbytes + written.nbytes) / best


def table(tasks: Sequence[Task], outcomes: Sequence[Outcome], rate: float, disk: float) -> Table:
    """One row a number of machines."""
    read, written = sum(task.read for task in tasks), sum(task.written for task in tasks)
    largest = max(tasks, key=lambda task: task.read + task.written)
    title = (
        f"{len(tasks):,} tasks, {read / 1e9:,.0f} GB read, {written / 1e9:,.0f} GB written, {rate / 1e6:,.0f} MB/s a "
        f"machine\nlargest task: {largest.name}, {(largest.read + largest.written) / 1e9:.1f} GB\n"
        f"a pass over the source: {2 * parameters(SOURCE, LAYERS[0]) / disk / 60:,.0f} min at {disk / 1e6:,.0f} MB/s"
    )
    result = Table(caption=title, caption_justify="left", box=SIMPLE, padding=0, min_width=90)
    for heading in ("machines", "minutes", "busy", "GB/s of the file system"):
        result.add_column(heading, justify="right", no_wrap=True)
    for one in outcomes:
        flow = (read + written) / one.seconds / 1e9
        result.add_row(str(one.machines), f"{one.seconds / 60:,.1f}", f"{one.busy:.0%}", f"{flow:.1f}")
    return result


def main() -> None:
    """Plans, spreads and prints the table."""
    parser = argparse.ArgumentParser(description="A resize of 400 billion parameters on N machines, simulated.")
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--rate", type=float, help="bytes read and written per second of a machine; default: measured")
    parser.add_argument("--disk", type=float, default=1e9, help="bytes per second of a pass (default: %(default).0f)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    given = parser.parse_args()
    rate = given.rate or measured_rate()
    tasks = list(tasks_of(plan_of(SOURCE, TARGET, LAYERS)))
    outcomes = [spread(tasks, machines, rate) for machines in given.machines]
    Console(width=120).print(table(tasks, outcomes, rate, given.disk))
    if given.json is not None:
        told = {"benchmark": "simulate", "environment": environment(), "rate": rate, "disk": given.disk}
        told |= {"tasks": len(tasks), "read": sum(t.read for t in tasks), "written": sum(t.written for t in tasks)}
        given.json.write_text(json.dumps(told | {"outcomes": [asdict(one) for one in outcomes]}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The commands that are tried: what they read, one of which is damaged, and what they may write."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import external_data_helper
from safetensors.numpy import save

from tests.system.fuzz.mutations import break_text, damage_model
from tests.system.fuzz.seeds import SEEDS, Seed, to_typed
from tests.system.fuzz.texts import damage_arrays, damage_bytes, damage_checkpoint, damage_json

MODEL, SOURCE, RESIZED = "model.onnx", "source.onnx", "resized.onnx"
SPEC, INPUTS, NAMES, CONFIG, WEIGHTS = "spec.json", "inputs.npz", "names.json", "config.json", "weights.safetensors"
OUT, PLAN, EXPORT = "out.onnx", "plan.json", "out.safetensors"


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        arguments: of it.
        reads: files that it reads; the damaged one is drawn from these, twice as often the first as all others.
        writes: names of the files that it writes.
    """

    arguments: tuple[str, ...]
    reads: tuple[str, ...] = (MODEL,)
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One command on one damaged file.

    Attributes:
        number: of the case. seed: name of the model. job: the command. damaged: the file.
        done: what was done to it, in words.
        surroundings: "" or what else is odd: see :data:`SURROUNDINGS`.
    """

    number: int
    seed: str
    job: Job
    damaged: str
    done: tuple[str, ...] = ()
    surroundings: str = ""


#: Where a command is run: stdout that takes nothing, or whose reader is gone; no thread to be had.
SURROUNDINGS = ("full", "closed", "broken", "threadless")


def _jobs(seed: Seed, rng: random.Random) -> list[tuple[int, Job]]:
    """Every command with its weight."""
    size = rng.choice(seed.sizes)
    axes = "x".join(str(rng.choice((n, n, n, 0, 1, 99))) for n in next(iter(seed.inputs.values())).shape)
    naming, given = ("--names", NAMES), ("--inputs", INPUTS)
    shape = f"{next(iter(seed.inputs))}={axes}"
    make = ("-o", OUT)
    method = rng.choice(("bert2bert", "front", "interleave", "net2net", "scratch", "stack", "ws"))
    one = rng.choice(([], ["--json"], ["-q"]))
    return [
        (6, Job(("inspect", MODEL, *rng.choice(([], ["--json"], ["--energy"]))))),
        (2, Job(("inspect", MODEL, *given), (MODEL, INPUTS))),
        (1, Job(("inspect", MODEL, "--input-shape", shape))),
        (6, Job(("resize", MODEL, *size, *make, *one), writes=(OUT,))),
        (2, Job(("resize", MODEL, *size, *make, *given), (MODEL, INPUTS), (OUT,))),
        (1, Job(("resize", MODEL, *size, *make, "--method", method, "--external"), writes=(OUT,))),
        (4, Job(("resize", MODEL, "--spec", SPEC, *make, "--plan-out", PLAN), (SPEC, MODEL), (OUT, PLAN))),
        (
            1,
            Job(("resize", MODEL, *size, *make, "--align", "rotate", "--calibration", INPUTS), (INPUTS, MODEL), (OUT,)),
        ),
        (3, Job(("resize", MODEL, *size, "--dry-run", "--plan-out", PLAN, *one), writes=(PLAN,))),
        (1, Job(("resize", MODEL, "--spec", CONFIG, "--dry-run"), (CONFIG,))),
        (3, Job(("verify", MODEL, *rng.choice(([], ["--json"]))))),
        (1, Job(("verify", RESIZED, "--spec", SPEC, *given), (RESIZED, SPEC, INPUTS))),
        (4, Job(("verify", RESIZED, "--against", MODEL), (RESIZED, MODEL))),
        (1, Job(("verify", MODEL, "--against", SOURCE), (MODEL, SOURCE))),
        (2, Job(("export", MODEL, *naming, "-o", EXPORT), (MODEL, NAMES), (EXPORT,))),
        (1, Job(("export", MODEL, *naming, "--hf", CONFIG, "-o", f"made/{EXPORT}"), (CONFIG, MODEL), ("made/*",))),
        (1, Job(("export", MODEL, "--like", WEIGHTS, "-o", EXPORT), (WEIGHTS, MODEL), (EXPORT,))),
        (1, Job(("export", RESIZED, "--source", MODEL, *naming, "-o", EXPORT), (RESIZED, MODEL), (EXPORT,))),
        (4, Job(("import", MODEL, *naming, "--from", WEIGHTS, *make), (WEIGHTS, MODEL, NAMES), (OUT,))),
        (1, Job(("import", MODEL, *naming, "--from", WEIGHTS, "--cast", *make), (WEIGHTS, MODEL), (OUT,))),
        (1, Job(("import", MODEL, "--from", WEIGHTS, "--like", WEIGHTS, *make), (WEIGHTS, MODEL), (OUT,))),
    ]


def draw(seed: int, number: int) -> tuple[Case, random.Random]:
    """The case of a number, not yet damaged, and what its damage is drawn with."""
    rng = random.Random(f"{seed}:{number}")
    name = rng.choice(list(SEEDS))
    weights, jobs = zip(*_jobs(SEEDS[name], rng), strict=True)
    job: Job = rng.choices(jobs, weights)[0]
    damaged = job.reads[0] if rng.random() < 0.6 else rng.choice(job.reads)
    surroundings = rng.choice(SURROUNDINGS) if rng.random() < 0.04 else ""
    return Case(number, name, job, damaged, surroundings=surroundings), rng


def damage(case: Case, folder: Path, rng: random.Random) -> Case:
    """Damage the case's file in ``folder``, and say how."""
    path = folder / case.damaged
    data = path.read_bytes()
    beside = [folder / name for name in SEEDS[case.seed].external]
    kind = path.suffix
    if kind == ".onnx" and beside and case.damaged == MODEL and rng.random() < 0.2:
        return replace(case, done=(_damage_beside(rng.choice(beside), rng),))
    done: list[str]
    if rng.random() < (0.15 if kind == ".onnx" else 0.1):
        data, done = damage_bytes(data, rng)
    elif kind == ".onnx":
        data, done = (break_text if rng.random() < 0.08 else damage_model)(data, rng)
    elif kind == ".npz":
        data, done = damage_arrays(data, rng)
    elif kind == ".safetensors":
        data, done = damage_checkpoint(data, rng)
    else:
        data = damage_json(data, rng)
        done = [f"{case.damaged}: {data[:60]!r}"]
    path.write_bytes(data)
    return replace(case, done=tuple(done))


def _damage_beside(path: Path, rng: random.Random) -> str:
    change = rng.randrange(5)
    if change == 0:
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
        return f"{path.name} truncated"
    if change == 1:
        path.write_bytes(damage_bytes(path.read_bytes(), rng)[0])
        return f"{path.name} damaged"
    path.unlink()
    if change == 2:
        path.mkdir()
    elif change == 3:
        path.symlink_to("/etc/hostname")
    return f"{path.name}: {('', '', 'a folder', 'a link out', 'gone')[change]}"


def make_inputs(folder: Path, name: str, run: Callable[[list[str]], int]) -> None:
    """Write what the commands on one seed read.

    Args:
        folder: an empty one.
        name: of the seed.
        run: runs a command in a process of its own and returns its exit code.
    """
    seed = SEEDS[name]
    paths = {file: str(folder / file) for file in (MODEL, SOURCE, RESIZED, SPEC, NAMES, WEIGHTS)}
    _write_model(seed, folder / SOURCE)
    (folder / SPEC).write_text(json.dumps(dict(seed.spec)))
    config = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16}
    (folder / CONFIG).write_text(json.dumps(config | {"num_attention_heads": 2, "vocab_size": 20}))
    np.savez(folder / INPUTS, **seed.inputs)  # type: ignore[arg-type]
    if seed.resized:
        assert run(["resize", paths[SOURCE], "--width", "1.5", "-o", paths[MODEL], "-q"]) == 0, name
    else:
        (folder / MODEL).write_bytes((folder / SOURCE).read_bytes())
    if seed.typed:
        model = onnx.load(folder / MODEL)
        to_typed(model)
        onnx.save(model, folder / MODEL)
    target = ["--width", "0.5"] if seed.resized else ["--spec", paths[SPEC]]
    assert run(["resize", paths[MODEL], *target, "-o", paths[RESIZED], "-q"]) == 0, name
    tensors = onnx.load(folder / MODEL, load_external_data=False).graph.initializer
    floats = [tensor for tensor in tensors if tensor.data_type in (1, 10, 11) and tensor.dims]
    (folder / NAMES).write_text(json.dumps({tensor.name: f"net.{tensor.name}.weight" for tensor in floats}))
    if run(["export", paths[MODEL], "--names", paths[NAMES], "-o", paths[WEIGHTS], "-q"]) != 0:
        (folder / NAMES).write_text("{}")  # packed weights have other names once they are floats
        (folder / WEIGHTS).write_bytes(save({"net.weight": np.zeros((3, 4), np.float32)}))


def _write_model(seed: Seed, path: Path) -> None:
    model = seed.build()
    for number, tensor in enumerate(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 20_000):
        if seed.external:
            place = seed.external[number % len(seed.external)]
            with open(path.parent / place, "ab") as data:
                offset = data.tell()
                data.write(tensor.raw_data)
            external_data_helper.set_external_data(tensor, place, offset, len(tensor.raw_data))
            tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())

"""Columns of the study: a source, a target size, and every start trained from the same data by the same recipe.

Runs are cached one by one, by all that decides them: the network, the recipe, the very weights that it starts from. A
study goes on where it stopped, and a change of the resizing code repeats only the runs whose starts it changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import torch

from benchmarks.environment import whole
from benchmarks.transfer.corpora import Images, Text, images, text
from benchmarks.transfer.measures import SHARES, Row, saved_mid, saved_short
from benchmarks.transfer.networks import EXAMPLES, Size, build, export
from benchmarks.transfer.starts import STARTS, Source, Start, StateDict
from benchmarks.transfer.training import Curve, Recipe, Task, train

SAMPLES = 64  #: inputs that the calibrated start looks at

#: Standard deviation that sources start from, the one that training takes best to.
SOURCE_DEVIATION = {"gpt": 0.02, "bert": 0.06, "vit": 0.12}
#: Schedules that a source trains for: a masked language model learns frequencies alone for most of its first.
SOURCE_SCHEDULES = {"gpt": 1, "bert": 2, "vit": 1}

#: The two directions, and the same small target from a source one step and two steps larger (the paper's D.2).
DIRECTIONS = ("shrink", "grow", "shrink-near", "shrink-far")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a study is.

    Attributes:
        sizes: architecture -> direction -> (source, target).
        source_steps, steps: of the source's schedule, times :data:`SOURCE_SCHEDULES`, and of the target's.
        batch: sequences a step, times :data:`EXAMPLES`.
        rates: learning rates that every start is given; sources train at the first.
        deviations: of random weights: what starts from any is tuned over them too.
        validation, evaluations: see :class:`Recipe`.
    """

    name: str
    sizes: Mapping[str, Mapping[str, tuple[Size, Size]]]
    source_steps: int
    steps: int
    batch: int
    rates: tuple[float, ...]
    deviations: tuple[float, ...]
    validation: int = 256
    evaluations: int = 25


_NEAR = {"shrink": (Size(4, 64), Size(2, 32)), "grow": (Size(2, 32), Size(4, 64))}
_TEXT = {"shrink": (Size(8, 128), Size(4, 64)), "grow": _NEAR["grow"]}
_IMAGE = {"shrink": (Size(4, 96), Size(2, 48)), "grow": (Size(2, 48), Size(4, 96))}
_DISPARITY = {"shrink-near": _NEAR["shrink"], "shrink-far": (Size(8, 128), Size(2, 32))}
_SMALL = {"gpt": _TEXT | _DISPARITY, "bert": _TEXT, "vit": _IMAGE}
_QUICK = _SMALL | {"bert": _NEAR, "vit": {"shrink": _IMAGE["shrink"], "grow": _NEAR["grow"]}}
_PAPER = {"shrink": (Size(12, 768), Size(6, 384)), "grow": (Size(6, 384), Size(12, 768))}

SCALES = {
    scale.name: scale
    for scale in (
        Scale("quick", _QUICK, 2500, 400, 8, (2e-3, 6e-3), (0.02, 0.06, 0.12), validation=128, evaluations=12),
        Scale("small", _SMALL, 4000, 1000, 16, (1e-3, 3e-3, 8e-3), (0.02, 0.06, 0.12)),
        Scale("paper", dict.fromkeys(_SMALL, _PAPER), 6000, 4000, 64, (3e-4, 1e-3), (0.02,)),
    )
}


@dataclass(frozen=True, slots=True)
class Job:
    """One training run."""

    architecture: str
    size: Size
    recipe: Recipe
    start: Path


@dataclass(frozen=True, slots=True)
class Column:
    """All starts of an architecture, a direction and a seed, and the loss that the source itself ended at.

    ``short``: short schedules were run as well; without them a row's ``short_saved`` say nothing.
    """

    architecture: str
    direction: str
    seed: int
    source_loss: float
    rows: tuple[Row, ...]
    curves: Mapping[str, Curve]
    short: bool = True


class Study:
    """Runs columns with a pool of processes, one thread each on the CPU."""

    def __init__(
        self, scale: Scale, cache: Path, *, device: str = "cpu", jobs: int = 2, tell: Callable[[str], None] = print
    ) -> None:
        self.scale, self.cache, self.device, self._tell = scale, cache, device, tell
        for folder in ("runs", "starts", "sources"):
            (cache / folder).mkdir(parents=True, exist_ok=True)
        self._pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def column(
        self, architecture: str, direction: str, seed: int, names: Sequence[str], *, short: bool = True
    ) -> Column:
        """Train every start of ``names`` that serves the direction, and measure it against tuned scratch.

        ``short``: also by full short schedules, which take as long again.
        """
        _data(architecture, self.cache)  # fetched and cut into tokens once, before the processes ask for it
        source_size, target = self.scale.sizes[architecture][direction]
        source = self._source(architecture, source_size, seed)
        recipe = self._recipe(architecture, self.scale.steps, seed)
        way = direction.partition("-")[0]
        able = [name for name in dict.fromkeys((*names, "scratch")) if way in STARTS[name].directions]
        starts = {name: list(self._states(STARTS[name], source, target, seed)) for name in able}
        best: dict[str, tuple[Curve, Job]] = {}
        pending = {
            name: [
                self._submit(architecture, target, replace(recipe, rate=rate), state)
                for state in states
                for rate in self.scale.rates
            ]
            for name, states in starts.items()
        }
        for name, runs in pending.items():
            best[name] = min(((future.result(), job) for future, job in runs), key=lambda run: run[0].losses[-1])
            self._tell(f"{architecture} {direction} seed {seed}: {name} ends at {best[name][0].losses[-1]:.3f}")
        return Column(architecture, direction, seed, source.loss, *self._measured(best, short), short)

    def _states(self, start: Start, source: Source, target: Size, seed: int) -> Iterator[StateDict]:
        """What a start gives: one set of weights, or one per deviation where some of them are random."""
        for chosen in [{"deviation": deviation} for deviation in self.scale.deviations] if start.tuned else [{}]:
            yield start.make(source, target, seed, **chosen)

    def _measured(self, best: Mapping[str, tuple[Curve, Job]], short: bool) -> tuple[tuple[Row, ...], dict[str, Curve]]:
        goal = best["scratch"][0].losses[-1]
        controls = [best[name][0].losses[-1] for name in best if STARTS[name].control]
        strictest = min(controls)
        with ThreadPoolExecutor(len(best)) as threads:  # each only waits for the pool
            told = {name: job for name, (_, job) in best.items() if short}
            shorts = dict(threads.map(lambda name: (name, dict(self._shorts(told[name], strictest))), told))
        rows = []
        for name, (curve, job) in best.items():
            ends = shorts.get(name, {})
            rows.append(
                Row(
                    name,
                    STARTS[name].control,
                    job.recipe.rate,
                    curve.losses[0],
                    curve.losses[-1],
                    saved_mid(curve, goal),
                    saved_short(ends, goal),
                    saved_mid(curve, strictest),
                    saved_short(ends, strictest),
                )
            )
        return tuple(rows), {name: curve for name, (curve, _) in best.items()}

    def _shorts(self, job: Job, goal: float) -> Iterator[tuple[float, Curve]]:
        """Full short schedules, shortest first, until one ends at ``goal``, the lowest loss that is asked for."""
        for share in SHARES:
            recipe = replace(job.recipe, steps=round(job.recipe.steps * share))
            curve = self._pool.submit(run, replace(job, recipe=recipe), self.cache, self.device).result()
            yield share, curve
            if curve.losses[-1] <= goal:
                return

    def _submit(self, architecture: str, size: Size, recipe: Recipe, state: StateDict) -> tuple[Future[Curve], Job]:
        job = Job(architecture, size, recipe, _stored(state, self.cache / "starts"))
        return self._pool.submit(run, job, self.cache, self.device), job

    def _recipe(self, architecture: str, steps: int, seed: int) -> Recipe:
        scale = self.scale
        return Recipe(
            steps,
            scale.batch * EXAMPLES[architecture],
            scale.rates[0],
            evaluations=scale.evaluations,
            validation=scale.validation,
            seed=seed,
        )

    def _source(self, architecture: str, size: Size, seed: int) -> Source:
        """The trained source and its ONNX file."""
        network = build(architecture, size, seed=1000 + seed, deviation=SOURCE_DEVIATION[architecture])
        state = {name: parameter.detach() for name, parameter in network.named_parameters()}
        steps = self.scale.source_steps * SOURCE_SCHEDULES[architecture]
        future, job = self._submit(architecture, size, self._recipe(architecture, steps, 1000 + seed), state)
        curve = future.result()
        trained = _trained_path(job, self.cache)
        state = torch.load(trained)
        path = trained.with_suffix(".onnx")
        if not path.exists():
            network = build(architecture, size)
            network.load_state_dict(state)
            with whole(path) as part:
                export(network, architecture, part)
        self._tell(f"{architecture} {size.layers}x{size.hidden} source ends at {curve.losses[-1]:.3f}")
        samples = self.cache / f"samples-{architecture}.npz"
        if not samples.exists():
            with whole(samples) as part:
                np.savez(part, input=Task(architecture, _data(architecture, self.cache)).inputs(SAMPLES))
        return Source(architecture, path, state, size, curve.losses[-1], samples)


def run(job: Job, cache: Path, device: str) -> Curve:
    """One training run, or what the cache holds of it; sources (the long ones) also leave their weights."""
    stored = cache / "runs" / f"{_key(job)}.json"
    if stored.exists():
        known = json.loads(stored.read_text())["curve"]
        return Curve(tuple(known["steps"]), tuple(known["losses"]), known["seconds"])
    if device == "cpu":
        torch.set_num_threads(1)
    network = build(job.architecture, job.size)
    network.load_state_dict(torch.load(job.start))
    curve = train(network, Task(job.architecture, _data(job.architecture, cache), device), job.recipe)
    if job.recipe.seed >= 1000:
        with whole(_trained_path(job, cache)) as part:
            torch.save({name: p.detach().cpu() for name, p in network.named_parameters()}, part)
    about = {"architecture": job.architecture, "size": asdict(job.size), "recipe": asdict(job.recipe)}
    with whole(stored) as part:
        part.write_text(json.dumps({**about, "device": device, "curve": asdict(curve)}))
    return curve


def _end_with_parent() -> None:
    """Make this process of the pool end when its parent does, however that ends: its queue would keep it at work."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=2)
def _data(architecture: str, cache: Path) -> Text | Images:
    return images(cache) if architecture == "vit" else text(cache)


def _key(job: Job) -> str:
    content = json.dumps([job.architecture, asdict(job.size), asdict(job.recipe), job.start.stem], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _trained_path(job: Job, cache: Path) -> Path:
    return cache / "sources" / f"{_key(job)}.pt"


def _stored(state: StateDict, folder: Path) -> Path:
    """File of a start, named by its content."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].contiguous().numpy().tobytes())
    path = folder / f"{digest.hexdigest()[:24]}.pt"
    if not path.exists():
        with whole(path) as part:
            torch.save(state, part)
    return path

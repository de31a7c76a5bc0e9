"""Every way, recovered for the same steps on the same data, and measured, also in int8."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from benchmarks.real.network import Real
from benchmarks.real.rows import WAYS, Way
from bot_onnx._quantise.jobs import quantise
from bot_onnx._quantise.measure import length
from bot_onnx._quantise.types import QuantiseRequest
from bot_onnx._recover.jobs import DataOptions, Settings, recover
from bot_onnx._runs.runtime import session
from bot_onnx._runs.timing import median_times

RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Found:
    """One file.

    Attributes:
        way: how it was made. steps: of recovering, seed: of start and training, quantised: whether it is in int8.
        megabytes: of the file and its data, 10^6 bytes. milliseconds: a run on one thread takes, median.
        quality: by name of the measure. minutes: of recovering; None where there was none.
    """

    way: str
    steps: int
    seed: int
    quantised: bool
    megabytes: float
    milliseconds: float
    quality: dict[str, float]
    minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """What of a network is run, and where it is kept: a finished training is not repeated."""

    real: Real
    cache: Path
    tell: Callable[[str], None]

    def run(
        self, ways: Sequence[str], steps: Sequence[int], longer: Mapping[str, Sequence[int]], seeds: int
    ) -> Iterator[Found]:
        """The source, then every way after each number of steps, each also in int8; seeds from 0.

        Args:
            ways: names. steps: of all ways and seeds. longer: more of some ways, by name, for the first seed alone.
                seeds: how many.

        Files of a way are of one size, whatever was learnt: one of each is timed, all in turn, once nothing else runs.
        """
        found = list(self._measured("source", 0, 0, self.real.source, None))
        timed = {("source", False): self.real.source, ("source", True): self._packed(self.real.source)}
        for way in (WAYS[name] for name in ways if WAYS[name].serves(self.real)):
            for seed in range(seeds):
                start = self._start(way, seed)
                for count in sorted({*steps, *(() if seed else longer.get(way.name, ()))}):
                    model, minutes = self._recovered(way, start, count, seed) if count else (start, None)
                    found += self._measured(way.name, count, seed, model, minutes)
                    timed |= {(way.name, False): model, (way.name, True): self._packed(model)}
        times = milliseconds(timed, self.real.feeds)
        yield from (replace(row, milliseconds=times[row.way, row.quantised]) for row in found)

    def _packed(self, model: Path) -> Path:
        return self._folder / "source.int8.onnx" if model == self.real.source else model.with_suffix(".int8.onnx")

    def _start(self, way: Way, seed: int) -> Path:
        output = self._folder / f"{_slug(way.name)}-{seed}.onnx"
        way.make(self.real, seed, output)  # cheap, and so always of the code as it is
        return output

    @property
    def _folder(self) -> Path:
        folder = self.cache / self.real.key
        folder.mkdir(exist_ok=True)
        return folder

    def _recovered(self, way: Way, start: Path, steps: int, seed: int) -> tuple[Path, float]:
        asked = {"steps": steps, "batch": self.real.batch, "rate": RATE, "seed": seed, "outputs": self.real.outputs}
        settings = Settings(**asked, held_out=0.01, threads=1)
        key = _digest(start, self.real.train, json.dumps(asked, sort_keys=True))
        output, notes = self._folder / f"{key}.onnx", self._folder / f"{key}.json"
        if not (output.exists() and notes.exists()):
            options = DataOptions(**self.real.options)
            result = recover(
                start, self.real.source, self.real.train, output, settings=settings, options=options, force=True
            )
            notes.write_text(json.dumps({"way": way.name, "steps": steps, "minutes": result.seconds / 60}))
        return output, float(json.loads(notes.read_text())["minutes"])

    def _measured(self, name: str, steps: int, seed: int, model: Path, minutes: float | None) -> Iterator[Found]:
        small = self._packed(model)
        samples = None if self.real.turned else self.real.samples
        quantise(model, small, QuantiseRequest("int8", calibration=samples, force=True))
        for kind, path in (("fp32", model), ("int8", small)):
            quality = {measure: run(path) for measure, run in self.real.measures.items()}
            size = length(path) / 1e6
            found = Found(name, steps, seed, kind == "int8", size, 0.0, quality, minutes)
            self.tell(f"{self.real.key}: {name}, {steps} steps, seed {seed}, {kind}: {size:.1f} MB, {quality}")
            yield found


def milliseconds(models: dict[tuple[str, bool], Path], feeds: dict[str, Any]) -> dict[tuple[str, bool], float]:
    """Median milliseconds of a run on one thread, the models in turn."""
    runs = {}
    for name, path in models.items():
        runner = session(str(path), threads=1, optimise=True)
        given = {port.name: feeds[port.name] for port in runner.get_inputs()}
        runs[name] = lambda runner=runner, given=given: runner.run(None, given)
        runs[name]()
    return {name: 1e3 * seconds for name, seconds in median_times(runs, fewest=15, most=60, seconds=2.0).items()}


def _digest(start: Path, data: Path, told: str) -> str:
    """Of what a training depends on: the start's nodes and weights (not where it came from), the data, the settings."""
    digest, model = hashlib.sha256(told.encode()), onnx.load(start)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        digest.update(node.SerializeToString(deterministic=True))
    for tensor in model.graph.initializer:
        digest.update(tensor.SerializeToString(deterministic=True))
    digest.update(data.read_bytes())
    return digest.hexdigest()[:24]


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name)

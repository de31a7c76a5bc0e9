"""Candidates tried out: planned and proven as ``resize`` would, written with random weights and timed."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot_onnx._analysis.passes import analyse
from bot_onnx._fit.latency import median_seconds, write_random
from bot_onnx._fit.search import Found
from bot_onnx._onnxfile.reader import Source
from bot_onnx._proof import Way, settle
from bot_onnx._resample import make_options
from bot_onnx._surgery.planner import Origin, Prepared, prepare
from bot_onnx._target import Solution, TargetSpec

_METHOD: Final = "bot"


@dataclass(frozen=True, slots=True)
class Tried:
    """What a plan says of a candidate.

    Attributes:
        solution: its sizes, proven.
        size_bytes: of the file.
        prepared: what writes it.
    """

    solution: Solution
    size_bytes: int
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Bench:
    """Where candidates are tried: the source, and how runs are timed.

    Attributes:
        source: the open file. digest: its SHA-256.
        shapes: of the inputs. threads: of one operator.
    """

    source: Source
    digest: Future[str]
    shapes: dict[str, tuple[int, ...]]
    threads: int

    def plan(self, found: Found) -> Tried:
        """Plan a candidate.

        Raises:
            ProofError: its sizes cannot be proven right.
            BotError: it cannot be had.
        """
        analysis = analyse(self.source.model())
        target, options = TargetSpec.parse(found.spec), make_options(_METHOD)
        settled = settle(analysis, target, Way(_METHOD, options))
        origin = Origin(str(self.source.path), self.digest.result(), self.source.size_bytes)
        external = self.source.uses_external_data
        prepared = prepare(
            analysis, target, settled, origin, method=_METHOD, options=options, seed=0, external=external
        )
        return Tried(settled.solution, prepared.plan.size_bytes[1], prepared)

    def seconds(self, tried: Tried) -> float:
        """Median time of a run of a candidate, with random weights."""
        with tempfile.TemporaryDirectory(prefix="bot-onnx-") as folder:
            path = Path(folder) / "model.onnx"
            write_random(tried.prepared, make_options(_METHOD), path)
            return median_seconds(path, self.shapes, self.threads)

    def source_seconds(self) -> float:
        """Median time of a run of the source."""
        return median_seconds(self.source.files[0], self.shapes, self.threads)

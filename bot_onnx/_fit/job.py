"""``fit``: from a model and a budget to candidates that are planned, proven and timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Final

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._costs import sizing_of
from bot_onnx._fit.budget import Budget
from bot_onnx._fit.families import family_of
from bot_onnx._fit.kept import Kept, kept_energy
from bot_onnx._fit.refusal import refuse
from bot_onnx._fit.search import Found, Search, depths_of
from bot_onnx._fit.trials import Bench, Tried
from bot_onnx._fit.types import ENOUGH, Candidate, Fit, Original, grade
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._resample.parallel import Background
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._structure import Structure
from bot_onnx._surgery.planner import refuse_quantised
from bot_onnx._target.channels import SCALED_ROLES
from bot_onnx.errors import BotError, ProofError, SpecError

SHOWN: Final = 4  #: candidates that are planned and timed
_ROUNDS: Final = 4  #: plans of a candidate, each of which tells more of what the file holds beside the weights
_AIMS: Final = 6  #: candidates that are timed to meet a latency
_MARGIN: Final = 0.97  #: what a time is aimed at, as a part of the limit: the next measurement will differ

Progress = Callable[[str, int, int], None]


@surviving()
def fit(
    model: str | PathLike[str],
    budget: Budget,
    *,
    keep: Collection[str] = (),
    inputs: Mapping[str, Any] | str | PathLike[str] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int = 1,
    measure: bool = True,
    progress: Progress | None = None,
) -> Fit:
    """Propose sizes of a network within a budget.

    Args:
        model: path of the ONNX file; its weights are read, to tell how much of them is kept.
        budget: what must not be exceeded.
        keep: role keys (``layers``, ``hidden``, ``heads``…), names or ids of dims that stay as they are.
        inputs, input_shapes: what to run and count the models on, see :func:`bot_onnx.inspect`.
        threads: of one operator, in timed runs.
        measure: time the source and the candidates in onnxruntime.
        progress: called with (what, steps done, steps in all).

    Raises:
        SpecError: no size meets the budget; the message says the smallest there is.
        BotError: the source cannot be understood.
    """
    sweep_beside(model)
    with open_model(model, given=as_given(inputs, input_shapes)) as source, Background() as reader:
        source.check_resizable()
        digest = reader.submit(source.sha256)
        analysis = analyse(source.model())
        refuse_quantised(analysis, str(source.path))
        sizing = sizing_of(analysis)
        bench = Bench(source, digest, sizing.inputs, threads)
        timed = bench.source_seconds() if measure or budget.latency is not None else None
        search = Search(sizing, family_of(analysis.structure, keep), budget, source.size_bytes)
        costs = sizing.costs(stored=search.stored)
        beside = max(source.size_bytes - sizing.costs().weight_bytes, 0)  # of a packed source less than nothing
        size = beside + costs.weight_bytes if search.stored else source.size_bytes
        original = Original(os.fspath(model), size, costs, timed)
        job = _Job(analysis, bench, search, keep, original, progress or _silent, timed is not None)
        found = job.unchanged() or job.candidates()
        source.check_unchanged()
        return Fit(original, budget, found, tuple(job.notes), threads)


def _silent(what: str, done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(slots=True)
class _Job:
    """The work on one budget."""

    analysis: Analysis
    bench: Bench
    search: Search
    keep: Collection[str]
    original: Original
    progress: Progress
    timed: bool
    notes: list[str] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    done: int = 0

    @property
    def budget(self) -> Budget:
        return self.search.budget

    def unchanged(self) -> tuple[Candidate, ...]:
        """The source itself, where it is within the budget."""
        source = self.original
        spent = {"size": source.size_bytes, "params": source.costs.parameters, "macs": source.costs.macs}
        used = self.budget.used({**spent, "latency": source.seconds})
        if used > 1:
            return ()
        self.notes.append("The model is within the budget as it is: there is nothing to resize.")
        depth = depths_of(self.search.structure, self.keep)[0]
        spec = {**({"layers": depth} if depth else {}), **self.search.family.spec(1.0)}
        sizes = _sizes(self.search.structure, None)
        return (Candidate(spec, depth, sizes, source.size_bytes, source.costs, 1.0, 1.0, used, source.seconds),)

    def candidates(self) -> tuple[Candidate, ...]:
        """Those of the depths that are balanced best, the best first."""
        depths = depths_of(self.search.structure, self.keep)
        if self.budget.latency is not None:
            self._aim(depths)
        made: list[Candidate] = []
        for depth in self._ranked(depths):
            if len(made) == SHOWN:
                break
            candidate = self._candidate(depth)
            if candidate is not None and candidate.used <= 1:
                made.append(candidate)
        if not made:
            raise self._refusal(depths)
        return tuple(sorted(_undominated(made), key=lambda one: one.rank, reverse=True))

    def _step(self, what: str) -> None:
        self.done += 1
        self.progress(what, self.done, max(self.done + 1, 2 * SHOWN + 8))

    def _ranked(self, depths: Sequence[Mapping[str, int]]) -> list[Mapping[str, int]]:
        """Depths at which the budget can be met: those that make use of it first, of these the best balanced."""
        found: list[tuple[int, float, int]] = []
        for place, depth in enumerate(depths):
            self._step(f"sizing {_named(depth)}")
            best = self.search.best(depth)
            if best is not None:
                found.append((-grade(self.search.used(best)), -self._kept(best).balance, place))
        return [depths[place] for *_, place in sorted(found)]

    def _kept(self, found: Found) -> Kept:
        key = repr(found.spec)
        if key not in self.kept:
            self.kept[key] = kept_energy(self.analysis, found.solution)
        return self.kept[key]

    def _candidate(self, depth: Mapping[str, int]) -> Candidate | None:
        """The best network of a depth, planned and timed; None where it cannot be had."""
        planned = self._planned(depth)
        if planned is None:
            return None
        found, tried = planned
        seconds = None
        if self.timed:
            self._step(f"timing {_named(depth)}")
            seconds = self.bench.seconds(tried)
        costs = self.search.costs(tried.solution)
        size = self.search.file_bytes(tried.solution, costs)
        spent = {"size": size, "params": costs.parameters, "macs": costs.macs, "latency": seconds}
        sizes = _sizes(self.search.structure, tried.solution.sizes)
        used, kept = self.budget.used(spent), self._kept(found)
        return Candidate(found.spec, dict(depth), sizes, size, costs, kept.overall, kept.balance, used, seconds)

    def _planned(self, depth: Mapping[str, int]) -> tuple[Found, Tried] | None:
        """Plan the best network of a depth until what the file holds beside the weights is known."""
        fitting: tuple[Found, Tried] | None = None
        for _ in range(_ROUNDS):
            found = self.search.best(depth)
            if found is None or (fitting is not None and found.spec == fitting[0].spec):
                break
            self._step(f"planning {_named(depth)}")
            try:
                tried = self.bench.plan(found)
            except ProofError as error:
                if not self._hold(error):
                    return None
                continue
            except BotError as error:
                self._tell(f"{_named(depth)} cannot be had: {error}")
                return None
            self.search.learn(tried.solution, tried.size_bytes)
            planned = replace(found, solution=tried.solution, costs=self.search.costs(tried.solution))
            if self.budget.used(self.search.spent(planned)) <= 1:
                fitting = planned, tried
        return fitting

    def _hold(self, error: ProofError) -> bool:
        """Keep the dims that a proof fails for, in all candidates from now on; whether there are any."""
        self._tell(str(error))
        names = tuple(name for name in getattr(error.fault, "dims", ()) if name not in self.keep)
        if not names:
            return False
        self.keep = (*self.keep, *names)
        self.search.family = family_of(self.search.structure, self.keep)
        return True

    def _aim(self, depths: Sequence[Mapping[str, int]]) -> None:
        """Find the multiply-accumulates that a latency allows: time is close to proportional to them.

        Raises:
            SpecError: the smallest network takes longer.
        """
        limit, taken = self.budget.latency, self.original.seconds
        assert limit is not None and taken is not None
        most = self.budget.macs or float("inf")
        self.search.macs = min(most, self.original.costs.macs * min(limit / taken, 1.0) * _MARGIN)
        reached = 0.0
        for _ in range(_AIMS):
            ranked = self._ranked(depths)
            candidate = self._candidate(ranked[0]) if ranked else None
            if candidate is None or candidate.seconds is None:
                break
            if candidate.seconds <= limit:
                reached = max(reached, candidate.costs.macs)
            share = candidate.seconds / limit
            if ENOUGH <= share <= 1 or candidate.costs.macs * _MARGIN / share >= most:
                break
            self.search.macs = min(most, candidate.costs.macs * _MARGIN / share)
        else:
            self.search.macs = reached or self.search.macs

    def _refusal(self, depths: Sequence[Mapping[str, int]]) -> SpecError:
        smallest = self.search.smallest(depths)
        seconds = None
        if self.budget.latency is not None:
            seconds = self.bench.seconds(self.bench.plan(smallest))
        return refuse(self.search, smallest, self.keep, seconds)

    def _tell(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _named(depth: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in depth.items()) or "the widths"


def _sizes(structure: Structure, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """Sizes of the leaves that can change, by name."""
    free = (d for d in structure.dims.values() if d.frozen is None and d.role in SCALED_ROLES and not d.parts)
    return {dim.name: dim.size if sizes is None else sizes[dim.id] for dim in free}


def _undominated(made: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no other one beats: keeps as much, and is no larger and no slower, and better in one of them."""

    def worth(one: Candidate) -> tuple[float, ...]:
        costs = one.costs
        return (one.kept, one.balance, -one.size_bytes, -costs.parameters, -costs.macs, -(one.seconds or 0.0))

    def beaten(one: Candidate) -> bool:
        own = worth(one)
        others = (worth(other) for other in made if other is not one)
        return any(all(a >= b for a, b in zip(w, own, strict=True)) and w != own for w in others)

    return [one for one in made if not beaten(one)]

"""What the nouns of the API do: from an opened file to an analysis, a plan, a written and verified model."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._canonical.decompose import Scheme
from bot_onnx._inspecting import opened
from bot_onnx._learn.asked import check_learnable, record
from bot_onnx._learn.types import Learned
from bot_onnx._learn.writing import tensors_of
from bot_onnx._onnxfile.addresses import Address, as_address
from bot_onnx._onnxfile.atomic_output import floats_beside
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.kept_work import KeptWork, Resumed
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.single_pass import read_once
from bot_onnx._onnxfile.uploads import Upload
from bot_onnx._onnxfile.writer import Values, check_output, write_model
from bot_onnx._origins import Origin, private_folder
from bot_onnx._progress import stage, step
from bot_onnx._proof import Way, settle
from bot_onnx._proof.replay import check_source, planned_again
from bot_onnx._recover.gradients import TorchGradients
from bot_onnx._request import ResizeRequest
from bot_onnx._resample import MethodOptions, make_options
from bot_onnx._resample.devices import namespace
from bot_onnx._resample.parallel import Background
from bot_onnx._results import Result
from bot_onnx._runs.sample_arrays import samples_for
from bot_onnx._shards import External, external_of
from bot_onnx._surgery import planner
from bot_onnx._surgery.calibrated import told as told_of_scales
from bot_onnx._surgery.execute import weigh
from bot_onnx._surgery.more_heads import with_key_heads
from bot_onnx._surgery.planner import Prepared, check_exact, prepare, refuse_quantised
from bot_onnx._surgery.proven import QUANTISED
from bot_onnx._surgery.requantise import check_requantisable
from bot_onnx._surgery.resuming import kept_work
from bot_onnx._surgery.spread import check_shared, spread
from bot_onnx._surgery.tokens import in_new_ids
from bot_onnx._surgery.types import Asked, Plan
from bot_onnx._target import TargetSpec
from bot_onnx._verify import (
    VerifyReport,
    check_quantised,
    expected_from_plan,
    publish_requantised,
    raise_unless_passed,
    verify_model,
)
from bot_onnx._workers import HERE, Pool
from bot_onnx.errors import BotError, GraphError, OutputError


def make_plan(
    origin: Origin,
    request: ResizeRequest,
    target: TargetSpec,
    given: Given | None,
    stored: Plan | None = None,
    *,
    hashed: bool = True,
) -> tuple[Plan, str]:
    """Plan a resize; see :meth:`bot_onnx._model.Model.plan`.

    Args:
        origin, request, target, given, stored: as :func:`carry_out` has them.
        hashed: whether the plan says of what source it is, for which every byte is read; a saved plan asks for it.

    Returns:
        The plan, and the digest of the source that it is for; empty where it was not asked for.
    """
    job = _Job(origin, request, target, given, stored)
    stage(f"analysing {origin.label}")
    with opened(origin, given) as source, Background() as reader:
        source.check_resizable()
        hashed = hashed or stored is not None
        digest = reader.submit(source.sha256 if hashed else lambda: NO_DIGEST)
        job.check_source(digest)
        name = source.path.name if stored is None else stored.asked.file_name
        made = job.prepared(source, analyse(source.model()), digest, name=name).plan
        source.check_unchanged()
        return (made, digest.result()) if hashed else (replace(made, source_sha256=""), "")


def carry_out(
    origin: Origin,
    request: ResizeRequest,
    target: TargetSpec,
    given: Given | None,
    out: Path,
    *,
    force: bool = False,
    resume: bool = False,
    pool: Pool = HERE,
    planned: str | None = None,
    stored: Plan | None = None,
    reads: tuple[Path, ...] = (),
    settled: Callable[[Plan], object] | None = None,
    held: tuple[Source, Analysis] | None = None,
) -> Result:
    """Resize a model, verify what was written, and give it its name; see :meth:`bot_onnx._model.Model.resize`.

    Args:
        origin, request, target, given: what is resized, to what, run on what.
        out: the output; one elsewhere is made here, verified and uploaded. force: replace an existing one.
        resume: keep finished tensors where the work ends before its time, and go on from those that are kept.
        pool: who makes the tensors; where that are other processes than this one, their work is kept as well.
        planned: digest of the source that a plan was made for; None: there is no plan yet.
        stored: a saved plan to run again. reads: files that no output may replace, besides those of the request.
        settled: told the plan before any weight is computed; what it raises ends the work.
        held: the source, open and analysed already; both are as they were afterwards.

    Raises:
        BotError: something was refused or failed; no output was left behind.
    """
    work = partial(
        _carried_out, origin, request, target, given, planned=planned, stored=stored, reads=reads, settled=settled,
        held=held,
    )  # fmt: skip
    address = as_address(out)
    if address is None:
        return work(out, force=force, resume=resume, pool=pool)
    if resume or pool.flag:
        raise OutputError(f"work is kept beside an output on this machine, and {address} is not: drop {pool.asking}")
    upload = Upload(address, force=force, sources=[origin.model] if isinstance(origin.model, Address) else [])
    with upload as here:
        try:
            result = work(here, force=False, resume=False, pool=HERE)
        except BotError as error:
            error.args = (str(error).replace(str(here), str(address)), *error.args[1:])
            raise
        upload.publish()
    return replace(result, output=address, report=replace(result.report, path=str(address)))


def _carried_out(
    origin: Origin,
    request: ResizeRequest,
    target: TargetSpec,
    given: Given | None,
    out: Path,
    *,
    force: bool,
    resume: bool,
    pool: Pool,
    planned: str | None,
    stored: Plan | None,
    reads: tuple[Path, ...],
    settled: Callable[[Plan], object] | None,
    held: tuple[Source, Analysis] | None,
) -> Result:
    """Do it, to a file on this machine; the arguments are those of :func:`carry_out`."""
    started = time.perf_counter()
    job = _Job(origin, request, target, given, stored)
    if (resume or pool.flag) and (request.requantize or request.learning is not None):
        raise OutputError(
            f"the work on {out} cannot be kept: it is trained or quantised as a whole; drop {pool.asking}"
        )
    if pool.flag:
        check_shared(pool, request.device, origin.model)
    xp = namespace("cpu" if pool.flag else request.device)
    sweep_beside(out)
    with opened(origin, given) if held is None else nullcontext(held[0]) as source, Background() as reader:
        external = job.external(source)
        read_only = (*source.files, *request.files(), *reads)
        check_output(out, external=external, force=force, sources=read_only)
        source.check_resizable()
        # Reading every byte (for NaN, for the hash) overlaps with the analysis, which reads few.
        read = reader.submit(lambda: read_once(source, search=not request.allow_nonfinite))
        digest = reader.submit(lambda: read.result()[0])
        finite = reader.submit(lambda: source.refuse(read.result()[1]))
        job.check_source(digest)
        writing = _Writing(job, source, out, external, force, read_only, digest, settled, resume, pool)
        stage(f"analysing {origin.label}")
        # Handed on, not held: verification makes an analysis of the output, and not both are there at a time.
        plan, report = writing.run(analyse(source.model()) if held is None else held[1], xp, finite, planned)
    return Result(plan, report, out, time.perf_counter() - started, writing.learned, writing.resumed)


#: Stands for a digest that nobody asked for: of the same length, since what is written tells it.
NO_DIGEST: Final = "0" * 64


class _Job:
    """What is resized, to what, and how."""

    def __init__(
        self, origin: Origin, request: ResizeRequest, target: TargetSpec, given: Given | None, stored: Plan | None
    ) -> None:
        self.stored = stored
        self.origin, self.request, self.target, self.given = origin, request, target, given
        self.options: MethodOptions = make_options(request.method, **dict(request.options or {}))

    def check_source(self, digest: Future[str]) -> None:
        """Refuse a saved plan of another source."""
        if self.stored is not None:
            check_source(self.stored, digest.result())

    def external(self, source: Source) -> External:
        """Where the weights go."""
        return external_of(self.request.external, source.uses_external_data)

    def prepared(self, source: Source, analysis: Analysis, digest: Future[str], *, name: str) -> Prepared:
        """Settle the sizes, prove them, plan the rest."""
        request, target = self.request, self.target
        refuse_quantised(analysis, str(source.path))
        if request.learning is not None:
            check_learnable(request, analysis, self.origin.label)
        origin = planner.Origin(self.origin.label, digest.result(), source.size_bytes)
        calibration, external = request.calibration, self.external(source)
        samples = None if calibration is None else samples_for(analysis.model, Path(calibration))
        if self.stored is not None:
            stage("planning again")
            return planned_again(
                analysis, self.stored, origin,
                samples=samples, gradients=TorchGradients(analysis), unproven=request.unproven, external=external,
                name=name,
            )  # fmt: skip
        analysis = with_key_heads(analysis, target)
        stage("proving the sizes")
        way = Way(request.method, self.options, request.seed)
        settled = settle(analysis, target, way, unproven=request.unproven)
        stage("planning")
        prepared = prepare(
            analysis,
            target,
            settled,
            origin,
            method=request.method,
            options=self.options,
            seed=request.seed,
            align=request.align,
            samples=samples,
            gradients=TorchGradients(analysis),
            external=external,
            name=name,
            asked=self._asked(),
        )
        check_exact(prepared)
        return prepared

    def _asked(self) -> Asked:
        """What the plan records of this, as far as it is known before the planning."""
        given, request = self.given, self.request
        shapes = {} if given is None else {name: tuple(map(int, shape)) for name, shape in given.shapes.items()}
        arrays = given is not None and bool(given.arrays)
        learned = None if request.learning is None else record(request.learning)
        return Asked(
            unproven=request.unproven, requantize=request.requantize, inputs=arrays, input_shapes=shapes,
            learned=learned,
        )  # fmt: skip


@dataclass(slots=True)
class _Writing:
    """One output on its way."""

    job: _Job
    source: Source
    out: Path
    external: External
    force: bool
    read_only: tuple[Path, ...]
    digest: Future[str]
    settled: Callable[[Plan], object] | None
    resume: bool = False
    pool: Pool = HERE
    report: VerifyReport | None = field(default=None, init=False)
    learned: Learned | None = field(default=None, init=False)
    resumed: Resumed | None = field(default=None, init=False)
    loose: Given | None = field(init=False)  #: what is given, for what is resized: it may take other sizes

    def __post_init__(self) -> None:
        given = self.job.given
        self.loose = None if given is None else replace(given, strict=False)

    def run(
        self, analysis: Analysis, xp: object, finite: Future[None], planned: str | None
    ) -> tuple[Plan, VerifyReport]:
        """Write, verify, publish. Give what was done, and the checks."""
        scheme = analysis.form.scheme
        if self.job.request.requantize:
            check_requantisable(scheme, self.job.origin.label)
        finite.result()
        if planned is not None and self.digest.result() != planned:
            raise GraphError(f"{self.job.origin.label} has changed since the plan was made: plan again")
        with nullcontext(self.out.parent) if scheme is None else floats_beside(self.out) as folder:
            prepared = self._prepare(analysis, scheme, folder)
            del analysis
            scratch = None if scheme is None else folder
            if scheme is not None and self.job.request.requantize:
                floats = folder / self.out.name
                plan = self._requantise(scheme, prepared, self._write(prepared, floats, xp, scratch), floats)
            else:
                plan = self._write(prepared, self.out, xp, scratch)
        assert self.report is not None
        return plan, self.report

    def _prepare(self, analysis: Analysis, scheme: Scheme | None, folder: Path) -> Prepared:
        request = self.job.request
        quantised = check_quantised(analysis, self.source, folder) if request.against else ()
        shown = str(self.source.path), self.job.origin.label  # a private file is no name to show
        quantised = tuple(note.replace(*shown) for note in quantised)
        prepared = self.job.prepared(self.source, analysis, self.digest, name=self.out.name)
        if request.requantize and scheme is not None and scheme.kind == "static":
            quantised = (*quantised, told_of_scales(prepared.calibrated))
        prepared.plan = replace(prepared.plan, notes=(*prepared.plan.notes, *quantised))
        if self.settled is not None:
            self.settled(prepared.plan)
        if self.loose is not None and prepared.token_inputs:
            self.loose = in_new_ids(self.loose, prepared.token_inputs, prepared.plan.asked.tokens)
        return prepared

    def _write(self, prepared: Prepared, written: Path, xp: object, scratch: Path | None) -> Plan:
        request = self.job.request

        def check(readable: str) -> None:
            stage(f"verifying {written.name}")
            self.source.check_unchanged()
            self.source.release()
            report = verify_model(
                written,
                readable=readable,
                expected=expected_from_plan(prepared.plan),
                against=self.source.path if request.against else None,
                against_sha256=self.digest.result(),
                allow_nonfinite=request.allow_nonfinite,
                given=self.loose,
                scratch=scratch,
                cuda=xp is not np,
            )
            raise_unless_passed(report)
            self.source.check_unchanged()
            self.report = report

        device = "cpu" if xp is np else "cuda"
        keeping = (
            kept_work(prepared, written, self.external, device) if self.resume or self.pool.flag else nullcontext()
        )
        with keeping as kept, ExitStack() as made:
            self.resumed = None if kept is None else kept.resumed
            tensors = self._tensors(prepared, kept, xp)
            if isinstance(tensors, Generator):  # whatever happens to the file, nothing is made any more
                made.callback(tensors.close)
            stage("writing")
            write_model(
                prepared.proto,
                prepared.slots,
                tensors,
                written,
                external=self.external,
                force=self.force,
                sources=self.read_only,
                before_publish=check,
                weighed=partial(weigh, prepared, device),
                kept=kept,
            )
        return prepared.plan

    def _tensors(self, prepared: Prepared, kept: KeptWork | None, xp: object) -> Iterable[tuple[str, Values]]:
        """What is written: made here or, which is told alone, by others."""
        if kept is not None and self.pool.flag:
            return spread(prepared, self.job.options, self.pool, kept, progress=step)
        tensors, self.learned = tensors_of(
            prepared, self.job.options, self.job.request.learning, xp=xp, source=self.source.path, given=self.loose,
            room=lambda: private_folder(prepared.plan.size_bytes[1]),
            finished=() if kept is None else frozenset(kept.finished),
        )  # fmt: skip
        return tensors

    def _requantise(self, scheme: Scheme, prepared: Prepared, plan: Plan, floats: Path) -> Plan:
        stage("quantising again")
        report, size = publish_requantised(
            scheme,
            floats,
            self.out,
            external=self.external,
            force=self.force,
            sources=self.read_only,
            calibrated=prepared.calibrated,
            allow_nonfinite=self.job.request.allow_nonfinite,
            given=self.loose,
        )
        self.report = report
        cosines = ", ".join(f"{e.output} {e.cosine:.4f}" for e in report.comparisons if e.cosine is not None)
        told = f"Quantised again, as the source was ({scheme.kind}): cosine with its floats {cosines}."
        return replace(plan, size_bytes=(plan.size_bytes[0], size), notes=(*plan.notes, told), promise=QUANTISED)

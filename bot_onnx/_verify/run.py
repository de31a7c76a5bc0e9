"""Carry a plan out: read, plan, write, verify, publish."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._canonical.decompose import Scheme
from bot_onnx._canonical.normalise import scheme_of
from bot_onnx._onnxfile.atomic_output import floats_beside
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output, write_model
from bot_onnx._proof.replay import check_source
from bot_onnx._resample import make_options
from bot_onnx._resample.devices import namespace
from bot_onnx._resample.parallel import Background
from bot_onnx._surgery.calibrated import told as told_of_scales
from bot_onnx._surgery.execute import Progress, produce
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.proven import QUANTISED
from bot_onnx._surgery.requantise import check_requantisable
from bot_onnx._surgery.types import Plan
from bot_onnx._verify.dequantised import check_quantised
from bot_onnx._verify.expected import expected_from_plan
from bot_onnx._verify.model import raise_unless_passed, verify_model
from bot_onnx._verify.requantised import publish_requantised
from bot_onnx._verify.types import VerifyReport
from bot_onnx.errors import PlanError

StrPath = str | os.PathLike[str]

#: From a source, its analysis, its hash, and whether weights go to a file beside the model, to what is to be done.
Planning = Callable[[Source, Analysis, Future[str], bool], Prepared]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did: its plan, the checks of the file, and the time in seconds."""

    plan: Plan
    report: VerifyReport
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """A resize but for its plan.

    The attributes are arguments of :func:`bot_onnx.resize`; ``reads`` are files that are read besides the model.
    """

    model: StrPath
    out: Path
    force: bool
    external: bool | None
    device: str
    allow_nonfinite: bool
    against: bool
    requantize: bool
    given: Given | None
    reads: tuple[StrPath, ...]
    progress: Progress | None
    stored: Plan | None = None  #: that is run again

    @property
    def _loose(self) -> Given | None:
        """What the result is run on: it may take other sizes."""
        return None if self.given is None else replace(self.given, strict=False)

    def carried_out(self, planning: Planning) -> Ran:
        """Read, plan, write, verify, publish."""
        started = time.perf_counter()
        xp = namespace(self.device)
        sweep_beside(self.model, self.out)
        with open_model(self.model, given=self.given) as source, Background() as reader, ExitStack() as files:
            in_data = source.uses_external_data if self.external is None else self.external
            read_only = (*source.files, *self.reads)
            check_output(self.out, external=in_data, force=self.force, sources=read_only)
            source.check_resizable()
            # Reading every byte (for NaN, for the hash) overlaps with the analysis, which reads none.
            finite = reader.submit(lambda: source.check(allow_nonfinite=self.allow_nonfinite))
            digest = reader.submit(source.sha256)
            if self.stored is not None:
                check_source(self.stored, digest.result())
            analysis = analyse(source.model())
            scheme = scheme_of(analysis.model)
            if self.requantize:
                check_requantisable(scheme, str(source.path))
            finite.result()
            folder = files.enter_context(floats_beside(self.out)) if scheme is not None else self.out.parent
            quantised = check_quantised(analysis, source, folder) if self.against else ()
            prepared = planning(source, analysis, digest, in_data)
            if self.requantize and scheme is not None and scheme.kind == "static":
                quantised = (*quantised, told_of_scales(prepared.calibrated))
            prepared.plan = replace(prepared.plan, notes=(*prepared.plan.notes, *quantised))
            del analysis  # verification makes one of the output: not both at a time
            written = folder / self.out.name if self.requantize else self.out
            scratch = folder if scheme is not None else None
            report = self._written(prepared, source, digest, written, read_only, xp, scratch, in_data)
            if self.requantize and scheme is not None:
                report = self._quantised_again(prepared, scheme, written, read_only, in_data)
        return Ran(prepared.plan, report, time.perf_counter() - started)

    def _written(
        self,
        prepared: Prepared,
        source: Source,
        digest: Future[str],
        written: Path,
        read_only: Sequence[StrPath],
        xp: Any,
        scratch: Path | None,
        in_data: bool,
    ) -> VerifyReport:
        """Make the weights, write the file and verify it before it has its name."""
        reports: list[VerifyReport] = []
        options = make_options(prepared.plan.method, **prepared.plan.options)
        loose = (
            None if self.given is None else replace(self.given, strict=False)
        )  # what is resized may take other sizes

        def check(readable: str) -> None:
            source.check_unchanged()
            source.release()
            report = verify_model(
                written,
                readable=readable,
                expected=expected_from_plan(prepared.plan),
                against=self.model if self.against else None,
                against_sha256=digest.result(),
                allow_nonfinite=self.allow_nonfinite,
                given=loose,
                scratch=scratch,
            )
            raise_unless_passed(report)
            source.check_unchanged()
            reports.append(report)

        write_model(
            prepared.proto,
            prepared.slots,
            produce(prepared, options, xp=xp, progress=self.progress),
            written,
            external=in_data,
            force=self.force,
            sources=read_only,
            before_publish=check,
            weighed=partial(_weigh, prepared, "cpu" if xp is np else "cuda"),
        )
        return reports[0]

    def _quantised_again(
        self, prepared: Prepared, scheme: Scheme, written: Path, read_only: Sequence[StrPath], in_data: bool
    ) -> VerifyReport:
        report, size = publish_requantised(
            scheme,
            written,
            self.out,
            external=in_data,
            force=self.force,
            sources=read_only,
            calibrated=prepared.calibrated,
            allow_nonfinite=self.allow_nonfinite,
            given=self._loose,
        )
        cosines = ", ".join(f"{e.output} {e.cosine:.4f}" for e in report.comparisons if e.cosine is not None)
        told = f"Quantised again, as the source was ({scheme.kind}): cosine with its floats {cosines}."
        plan = prepared.plan
        sizes, notes = (plan.size_bytes[0], size), (*plan.notes, told)
        prepared.plan = replace(plan, size_bytes=sizes, notes=notes, promise=QUANTISED)
        return report


def _weigh(prepared: Prepared, device: str, weights_sha256: str) -> None:
    """Take note of the weights that were made; those of a saved plan's own run must be the same on the same device."""
    plan = prepared.plan
    if plan.weights_sha256 not in (None, weights_sha256) and plan.device == device:
        raise PlanError(
            f"the weights came out otherwise ({weights_sha256[:12]}…) than in the run that made the plan "
            f"({(plan.weights_sha256 or '')[:12]}…): another processor, library or number of threads rounds otherwise; "
            "a plan of --dry-run holds no hash of them"
        )
    prepared.plan = replace(plan, weights_sha256=weights_sha256, device=device)

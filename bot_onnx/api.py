"""The Python API; the commands are thin layers over it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import onnx_ir as ir

from bot_onnx._align import Kind, find_facts, plan_alignment
from bot_onnx._align import align as align_tensors
from bot_onnx._align.energy import EnergyTable, halved
from bot_onnx._align.energy import energy as measure_energy
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._canonical.normalise import scheme_of
from bot_onnx._costs import Costs, sizing_of
from bot_onnx._onnxfile.atomic_output import floats_beside
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output, write_model
from bot_onnx._proof import Way, settle
from bot_onnx._resample import make_options, shrinking_operators
from bot_onnx._resample.devices import namespace
from bot_onnx._resample.parallel import Background
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._runs.sample_arrays import samples_for
from bot_onnx._structure import Structure
from bot_onnx._surgery.calibrated import told as told_of_scales
from bot_onnx._surgery.execute import Progress, produce
from bot_onnx._surgery.more_heads import with_key_heads
from bot_onnx._surgery.planner import Origin, Prepared, check_exact, prepare, refuse_quantised
from bot_onnx._surgery.proven import Promise
from bot_onnx._surgery.requantise import check_requantisable
from bot_onnx._surgery.types import Plan
from bot_onnx._target import TargetSpec
from bot_onnx._verify import (
    Expected,
    VerifyReport,
    check_quantised,
    expected_from_plan,
    expected_from_spec,
    publish_requantised,
    raise_unless_passed,
    verify_model,
)
from bot_onnx.errors import ResampleError

__all__ = [
    "Inspection",
    "Result",
    "energy",
    "inspect",
    "plan",
    "resize",
    "verify",
]

PathOrName = str | PathLike[str]
SpecLike = TargetSpec | Mapping[str, Any] | PathOrName
InputsLike = Mapping[str, Any] | PathOrName  #: arrays by input, or an ``.npz`` file of them
Port = tuple[str, str, tuple[int | str, ...]]  #: name, data type, shape of an input or output


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model file holds: the structure, and facts of the file."""

    path: str
    structure: Structure
    opset: int
    producer: str
    size_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    costs: Costs


@dataclass(frozen=True, slots=True)
class Result:
    """A finished resize."""

    plan: Plan
    report: VerifyReport
    output: Path
    seconds: float


@surviving()
def inspect(
    model: PathOrName, *, inputs: InputsLike | None = None, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Inspection:
    """Analyse a model file.

    Args:
        model: path of the ONNX file.
        inputs: what to run it on, where sizes cannot be guessed: arrays by input, or an ``.npz`` file of them.
        input_shapes: shapes by input; what is fed is made up, or repeated from ``inputs``.

    Raises:
        GraphError: it cannot be read or run.
    """
    sweep_beside(model)
    with open_model(model, given=as_given(inputs, input_shapes)) as source:
        loaded = source.model()
        analysis = analyse(loaded)
        source.check_unchanged()
        return Inspection(
            path=str(model),
            structure=analysis.structure,
            opset=loaded.opset_imports.get("", 0),
            producer=" ".join(filter(None, (loaded.producer_name, loaded.producer_version))),
            size_bytes=source.size_bytes,
            inputs=tuple(map(_port, loaded.graph.inputs)),
            outputs=tuple(map(_port, loaded.graph.outputs)),
            costs=sizing_of(analysis).costs(),
        )


@surviving()
def energy(
    model: PathOrName, *, inputs: InputsLike | None = None, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[EnergyTable, ...]:
    """Say how much of every stack's energy halving would keep, by each method that shrinks and under each alignment.

    Args:
        model: path of the ONNX file. All of its weights are read.
        inputs, input_shapes: what to run it on, see :func:`inspect`.

    Returns:
        A table per method for ``none``, for ``permute``, and for ``rotate`` where the network admits it.

    Raises:
        GraphError: it cannot be read or run.
    """
    sweep_beside(model)
    with open_model(model, given=as_given(inputs, input_shapes)) as source:
        source.check_resizable()
        loaded = source.model()
        analysis = analyse(loaded)
        structure, facts = analysis.structure, find_facts(analysis)
        tensors = {n: v.const_value for n, v in loaded.graph.initializers.items() if v.const_value is not None}
        tables: list[EnergyTable] = []
        kinds: tuple[Kind, ...] = ("none", "permute", "rotate")
        for kind in kinds:
            try:
                alignment = plan_alignment(kind, structure, halved(structure), facts)
                aligned = align_tensors(alignment, tensors)
                tables.extend(measure_energy(structure, alignment, aligned, shrinking_operators()))
            except ResampleError:
                if kind != "rotate":  # which is for pre-norm networks alone
                    raise
        source.check_unchanged()
        return tuple(tables)


def _port(value: ir.Value) -> Port:
    shape = tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape or ())
    return value.name or "", value.dtype.name if value.dtype else "?", shape


def _files_among(*given: SpecLike | None) -> list[PathOrName]:
    """Those of the arguments that name files that exist."""
    return [name for name in given if isinstance(name, str | PathLike) and Path(name).is_file()]


def _spec(spec: SpecLike) -> TargetSpec:
    if isinstance(spec, TargetSpec):
        return spec
    if isinstance(spec, Mapping):
        return TargetSpec.parse(spec)
    return TargetSpec.load(str(spec))


@surviving()
def plan(
    model: PathOrName,
    spec: SpecLike,
    *,
    method: str = "bot",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    align: Kind | None = None,
    calibration: PathOrName | None = None,
    external: bool | None = None,
    unproven: bool = False,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Plan:
    """Say everything that a resize would do, without reading a weight.

    Args:
        model: path of the source.
        spec: the target: a :class:`TargetSpec`, a mapping with its keys, a path (ours or a HuggingFace
            ``config.json``), or the name of a published one.
        method: name of a resampling method. options: its options.
        seed: of what the method draws at random.
        align: ``none``, ``permute``, ``select``, ``rotate`` or ``auto``: make the source's tensors resample better,
            without changing its function, before the method sees them; None: as the method likes it.
        calibration: an ``.npz`` file with an array per input of the source, samples along the first axis: alignment
            ``rotate`` then takes its basis from the stream on them, not from the weights.
        external: store the weights beside the model; None: as the source does.
        unproven: go on where the sizes cannot be proven right; the plan and the file say so.
        inputs, input_shapes: what to run the models on, see :func:`inspect`.

    Raises:
        ProofError: the sizes cannot be proven right.
        BotError: the source cannot be understood, or the target cannot be had.
    """
    target = _spec(spec)
    chosen = make_options(method, **dict(options or {}))
    sweep_beside(model)
    with open_model(model, given=as_given(inputs, input_shapes)) as source, Background() as reader:
        source.check_resizable()
        digest = reader.submit(source.sha256)
        analysis = analyse(source.model())
        way = Way(method, chosen, seed)
        in_data = source.uses_external_data if external is None else external
        made = _prepared(
            source, analysis, target, way, digest, align, calibration, unproven, external=in_data, name=Path(model).name
        ).plan
        source.check_unchanged()
        return made


def _prepared(
    source: Source,
    analysis: Analysis,
    target: TargetSpec,
    way: Way,
    digest: Future[str],
    align: Kind | None,
    calibration: PathOrName | None,
    unproven: bool,
    *,
    external: bool,
    name: str,
) -> Prepared:
    """Settle the sizes, prove them, plan the rest."""
    refuse_quantised(analysis, str(source.path))
    analysis = with_key_heads(analysis, target)
    settled = settle(analysis, target, way, unproven=unproven)
    prepared = prepare(
        analysis,
        target,
        settled,
        Origin(str(source.path), digest.result(), source.size_bytes),
        method=way.method,
        options=way.options,
        seed=way.seed,
        align=align,
        samples=None if calibration is None else samples_for(analysis.model, Path(calibration)),
        external=external,
        name=name,
    )
    check_exact(prepared)
    return prepared


@surviving()
def resize(
    model: PathOrName,
    spec: SpecLike,
    output: PathOrName,
    *,
    method: str = "bot",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    align: Kind | None = None,
    calibration: PathOrName | None = None,
    force: bool = False,
    external: bool | None = None,
    unproven: bool = False,
    device: str = "auto",
    allow_nonfinite: bool = False,
    against: bool = True,
    requantize: bool = False,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Resize a model and verify what was written.

    The output appears under its name only when it is whole and has passed; the source is never written to.

    Args:
        model, spec, method, options, seed, align, calibration, unproven, inputs, input_shapes: see :func:`plan`.
        output: path of the new model.
        force: replace an existing output.
        external: store the weights beside the model; None: as the source does.
        device: ``auto``, ``cpu`` or ``cuda``.
        allow_nonfinite: accept NaN and infinite weights.
        against: also compare the outputs with the source's; those that the plan promises to keep must agree.
        requantize: quantise the result in the scheme of the source, which must be a quantised one; otherwise a
            quantised source gives floats. Calibrated activation scales stay where they hold at the new sizes.
        progress: called with (what, bytes done, bytes in all).

    Raises:
        BotError: something was refused or failed; no output was left behind.
    """
    started = time.perf_counter()
    target = _spec(spec)
    out = Path(output)
    chosen = make_options(method, **dict(options or {}))
    xp = namespace(device)
    sweep_beside(model, out)
    given = as_given(inputs, input_shapes)
    loose = None if given is None else replace(given, strict=False)  # what is resized may take other sizes
    with open_model(model, given=given) as source, Background() as reader, ExitStack() as files:
        in_data = source.uses_external_data if external is None else external
        read_only = (*source.files, *_files_among(spec, calibration))
        check_output(out, external=in_data, force=force, sources=read_only)
        source.check_resizable()
        # Reading every byte (for NaN, for the hash) overlaps with the analysis, which reads none.
        finite = reader.submit(lambda: source.check(allow_nonfinite=allow_nonfinite))
        digest = reader.submit(source.sha256)
        analysis = analyse(source.model())
        scheme = scheme_of(analysis.model)
        if requantize:
            check_requantisable(scheme, str(source.path))
        finite.result()
        folder = files.enter_context(floats_beside(out)) if scheme is not None else out.parent
        quantised = check_quantised(analysis, source, folder) if against else ()
        way = Way(method, chosen, seed)
        prepared = _prepared(
            source, analysis, target, way, digest, align, calibration, unproven, external=in_data, name=out.name
        )
        if requantize and scheme is not None and scheme.kind == "static":
            quantised = (*quantised, told_of_scales(prepared.calibrated))
        prepared.plan = replace(prepared.plan, notes=(*prepared.plan.notes, *quantised))
        del analysis  # verification makes one of the output: not both at a time
        reports: list[VerifyReport] = []
        written = folder / out.name if requantize else out

        def check(readable: str) -> None:
            source.check_unchanged()
            source.release()
            expected = expected_from_plan(prepared.plan)
            report = verify_model(
                written,
                readable=readable,
                expected=expected,
                against=model if against else None,
                against_sha256=digest.result(),
                allow_nonfinite=allow_nonfinite,
                given=loose,
                scratch=folder if scheme is not None else None,
            )
            raise_unless_passed(report)
            source.check_unchanged()
            reports.append(report)

        write_model(
            prepared.proto,
            prepared.slots,
            produce(prepared, chosen, xp=xp, progress=progress),
            written,
            external=in_data,
            force=force,
            sources=read_only,
            before_publish=check,
        )
        if requantize and scheme is not None:
            report, size = publish_requantised(
                scheme,
                written,
                out,
                external=in_data,
                force=force,
                sources=read_only,
                calibrated=prepared.calibrated,
                allow_nonfinite=allow_nonfinite,
                given=loose,
            )
            reports[0] = report
            sizes = (prepared.plan.size_bytes[0], size)
            cosines = ", ".join(f"{e.output} {e.cosine:.4f}" for e in report.comparisons if e.cosine is not None)
            told = f"Quantised again, as the source was ({scheme.kind}): cosine with its floats {cosines}."
            open_again = Promise(why="quantised again")  # the floats were held against the source, not what rounds them
            notes = (*prepared.plan.notes, told)
            prepared.plan = replace(prepared.plan, size_bytes=sizes, notes=notes, promise=open_again)
    return Result(prepared.plan, reports[0], out, time.perf_counter() - started)


@surviving()
def verify(
    model: PathOrName,
    *,
    spec: SpecLike | None = None,
    against: PathOrName | None = None,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> VerifyReport:
    """Check a model file: structure, runtime, analysis, and how close its outputs are to another model's.

    Args:
        model: path of the file.
        spec: what its sizes should be.
        against: a model to compare its outputs with. Where the file says that it was resized from that very model and
            keeps its outputs, a check fails unless they agree; otherwise the comparison is for information.
        inputs, input_shapes: what to run the models on, see :func:`inspect`.

    Raises:
        GraphError: the file cannot be opened at all. Failed checks are in the report.
    """
    wanted = None if spec is None else _spec(spec)
    sweep_beside(model)

    def expected(structure: Structure) -> Expected:
        assert wanted is not None
        return expected_from_spec(structure, wanted)

    given = as_given(inputs, input_shapes)
    return verify_model(model, expected=None if wanted is None else expected, against=against, given=given)

"""A quantisation from a path to a finished file."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Final

from bot_onnx._analysis.passes import analyse
from bot_onnx._canonical.decompose import Scheme
from bot_onnx._canonical.decompose.scheme import read_scheme
from bot_onnx._onnxfile.atomic_output import floats_beside
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._progress import stage
from bot_onnx._quantise.convert import check_between, convert
from bot_onnx._quantise.inputs import Drawn, draw
from bot_onnx._quantise.measure import closeness, costs, open_file
from bot_onnx._quantise.tally import Tally, says_why, tally
from bot_onnx._quantise.types import Closeness, Kind, Quantised, QuantiseRequest, Spent
from bot_onnx._runs.sample_arrays import Samples, samples_for
from bot_onnx._shards import external_of
from bot_onnx._verify import check_quantised, publish_packed
from bot_onnx.errors import GraphError, VerifyError

PathOrName = str | PathLike[str]

_ALONE: Final = "source, quantised"


@surviving()
def quantise(
    model: PathOrName,
    output: PathOrName,
    request: QuantiseRequest,
    *,
    shown: str | None = None,
    read_only: tuple[Path, ...] = (),
    beside: Path | None = None,
    way: str = "resized",
) -> Quantised:
    """Quantise a model in floating point, and write it once it has passed all checks.

    The output appears under its name only when onnx.checker accepts it, onnxruntime loads and runs it, and the analysis
    finds in it what was asked for; ``model`` is only read.

    Args:
        model: path of the model. output: path of the new one. request: what is asked.
        shown: what reports call the model; None: its path.
        read_only: more files that the output must not be.
        beside: the model that ``model`` was resized from: it is quantised as well, to be measured, and not kept.
        way: how ``model`` came of it, for the names of the measured files: ``resized`` or ``recovered``.

    Raises:
        GraphError: the model is quantised already, there is nothing to quantise, or the quantiser fails.
        VerifyError: what came out is no right file; nothing is kept.
        BotError: the files or the samples are not what they should be.
    """
    started = time.perf_counter()
    out = Path(output)
    sweep_beside(model, out)
    with ExitStack() as stack:
        source = stack.enter_context(open_model(model, given=request.given))
        external = external_of(request.external, source.uses_external_data)
        read = (*source.files, *read_only, *filter(None, (request.calibration, beside)))
        check_output(out, external=external, force=request.force, sources=read)
        check_quantisable(source, shown)
        folder = stack.enter_context(floats_beside(out))
        made = _pack(source, request, folder / f"packed-{out.name}")
        stage("measuring")
        files = {"float": source.files[0], "quantised": made.path}
        notes = made.notes
        if beside is not None:
            files, alone = _source_alone(
                beside, request, folder, {f"{way}, {what}": path for what, path in files.items()}
            )
            notes += alone
        spent = costs(files, made.drawn.batches)
        report, size = publish_packed(
            made.path,
            source.files[0],
            out,
            why=f"quantised to {request.kind}",
            judge=lambda readable: _check_scheme(readable, out, folder, request.kind),
            external=external,
            force=request.force,
            sources=read,
            given=request.given,
        )
        source.check_unchanged()
    return Quantised(
        source=shown or str(model),
        output=out,
        kind=request.kind,
        scheme="half precision" if made.scheme is None else made.scheme.describe(),
        calibrated=len(made.samples) if made.samples is not None and request.kind == "int8" else None,
        compared_on=made.drawn.words,
        made_up=made.drawn.made_up,
        tensors=made.tally.tensors,
        numbers=made.tally.numbers,
        left=made.tally.left,
        closeness=made.closeness,
        costs=tuple(_sized(cost, size) for cost in spent),
        notes=notes,
        report=report,
        seconds=time.perf_counter() - started,
    )


def check_quantisable(source: Source, shown: str | None = None) -> None:
    """Refuse what is quantised already, and weights that are no numbers.

    Raises:
        GraphError: it is not for quantising.
    """
    scheme = read_scheme(source.model().graph)
    if scheme is not None:
        raise GraphError(
            f"{shown or source.path} is quantised already ({scheme.describe()}): quantise the floating-point model it "
            "was made from, or resize it with --requantize, which packs the result in the same scheme"
        )
    source.check_resizable()
    source.check()


@dataclass(frozen=True, slots=True)
class _Packed:
    """What the quantiser made of a model, and what was seen of it."""

    path: Path
    scheme: Scheme | None
    samples: Samples | None
    drawn: Drawn
    tally: Tally
    closeness: tuple[Closeness, ...]
    notes: tuple[str, ...]


def _pack(source: Source, request: QuantiseRequest, target: Path) -> _Packed:
    """Quantise into the scratch folder, count and compare."""
    stage(f"analysing {source.path}")
    analysis = analyse(source.model())
    samples = None if request.calibration is None else samples_for(source.model(), request.calibration)
    drawn = draw(source, analysis, samples)
    stage(f"quantising to {request.kind}")
    notes = convert(request.kind, source, target, samples)
    if request.kind == "fp16":
        notes += check_between(source, drawn.batches)
    with open_model(target, name=f"{source.path} in {request.kind}") as packed:
        found = tally(source, packed)
        _check_any(found, source, request)
        scheme = read_scheme(packed.model().graph)
    stage("comparing")
    close = closeness(open_file(source.files[0]), open_file(target), drawn.batches, request.kind)
    return _Packed(target, scheme, samples, drawn, found, close, notes)


def _check_any(found: Tally, source: Source, request: QuantiseRequest) -> None:
    if found.tensors:
        return
    left = "; ".join(f"{entry.tensors} {says_why(entry, request.kind)}" for entry in found.left) or "it has no float32"
    way = " (--calibration finds scales for convolutions)" if request.kind == "int8" and not request.calibration else ""
    raise GraphError(f"{source.path} has nothing to quantise to {request.kind}: {left}{way}")


def _check_scheme(readable: str, name: Path, folder: Path, kind: Kind) -> None:
    """The file must be what inspect will call it, and compute what its numbers stand for."""
    with open_model(readable, name=name) as made:
        analysis = analyse(made.model())
        found = analysis.form.scheme
        if (found is None) != (kind == "fp16"):
            raise VerifyError(f"the file that the quantiser made is not seen as {kind}; nothing was kept")
        check_quantised(analysis, made, folder, readable)


def _source_alone(
    beside: Path, request: QuantiseRequest, folder: Path, files: dict[str, Path]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The model before it was resized, and the same quantised: whether resizing was worth it shows beside these."""
    first = {"source, float": beside}
    told: tuple[str, ...] = ()
    packed = folder / "source.onnx"
    try:
        with open_model(beside, given=request.given) as source:
            samples = None if request.calibration is None else samples_for(source.model(), request.calibration)
            convert(request.kind, source, packed, samples)
        first[_ALONE] = packed
    except GraphError as error:
        told = (f"The source alone cannot be quantised like this, to be measured beside it: {error}",)
    return {**first, **files}, told


def _sized(cost: Spent, size: int) -> Spent:
    """The output's size is that of the written file."""
    own = cost.what.endswith("quantised") and cost.what != _ALONE
    return replace(cost, size_bytes=size) if own else cost

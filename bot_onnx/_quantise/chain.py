"""A resize, or a training, whose result is published quantised: the floats pass all their checks first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from bot_onnx._onnxfile.atomic_output import floats_beside
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._quantise.jobs import check_quantisable, quantise
from bot_onnx._quantise.types import Quantised, QuantiseRequest
from bot_onnx._runs.sample_arrays import samples_for
from bot_onnx._shards import external_of

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Chained(Generic[R]):
    """What the work came to, in floating point, and the quantisation of it."""

    floats: R
    quantised: Quantised


def make_and_quantise(
    model: Path,
    out: Path,
    request: QuantiseRequest,
    make: Callable[[Path], R],
    read_only: tuple[Path, ...] = (),
    *,
    beside: Path | None = None,
    way: str = "resized",
) -> Chained[R]:
    """Make a model in a scratch folder, and publish the quantised result.

    Args:
        model: what it is made of. out: the output. request: how it is quantised.
        make: writes the floats, verified, to the path that it is given.
        read_only: files that the output must not be.
        beside: what is measured beside it, quantised alike; None: ``model``. way: see :func:`quantise`.

    Raises:
        BotError: the model is quantised already, or either half was refused or failed; no output was left behind.
    """
    with open_model(model, given=request.given) as source:
        check_output(out, force=request.force, sources=(*source.files, *read_only))
        check_quantisable(source)
        if request.calibration is not None:  # before any work, not after it
            samples_for(source.model(), request.calibration)
        external = external_of(request.external, source.uses_external_data)
    request = replace(request, external=external, given=loosened(request))
    with floats_beside(out) as folder:
        floats = folder / out.name
        made = make(floats)
        packed = quantise(
            floats, out, request, shown=f"{model}, {way}", read_only=read_only, beside=beside or model, way=way
        )
    return Chained(made, packed)


def loosened(request: QuantiseRequest) -> Given | None:
    """What is given to run on, for a model that may take other sizes than its source."""
    return None if request.given is None else replace(request.given, strict=False)

"""A resize whose result is published quantised: the floats lie in a scratch folder, and pass all their checks first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from bot_onnx._onnxfile.atomic_output import floats_beside
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._quantise.jobs import check_quantisable, quantise
from bot_onnx._quantise.types import Quantised, QuantiseRequest

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Chained(Generic[R]):
    """What the resize came to, in floating point, and the quantisation of it."""

    resized: R
    quantised: Quantised


def resize_and_quantise(
    model: Path, out: Path, request: QuantiseRequest, resize: Callable[[Path], R], read_only: tuple[Path, ...] = ()
) -> Chained[R]:
    """Resize into a scratch folder, and publish the quantised result.

    Args:
        model: the source. out: the output. request: how it is quantised.
        resize: writes the floats, verified, to the path that it is given.
        read_only: files that the output must not be.

    Raises:
        BotError: the source is quantised already, or either half was refused or failed; no output was left behind.
    """
    with open_model(model, given=request.given) as source:
        check_output(out, force=request.force, sources=(*source.files, *read_only))
        check_quantisable(source)
        external = source.uses_external_data if request.external is None else request.external
    loose = None if request.given is None else replace(request.given, strict=False)
    request = replace(request, external=external, given=loose)
    with floats_beside(out) as folder:
        floats = folder / out.name
        resized = resize(floats)
        made = quantise(floats, out, request, shown=f"{model}, resized", read_only=read_only, beside=model)
    return Chained(resized, made)

"""``--quantize`` of ``resize`` and ``recover``: the published file is the quantised result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from bot_onnx._cli.failures import standing
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import OUTPUT, F, option
from bot_onnx._cli.paths import ReadPath
from bot_onnx._names import QuantiseKind
from bot_onnx._request import ResizeRequest

if TYPE_CHECKING:
    from bot_onnx._model import Model

#: What Optimum and its kin put behind a model's name.
IN_FOLDERS: Final = {"int8": "quantized", "int4": "q4", "fp16": "fp16"}


def quantise_options(command: F) -> F:
    """Add ``--quantize`` and ``--quantize-on``."""
    kind = option(
        OUTPUT,
        "--quantize",
        type=click.Choice(get_args(QuantiseKind)),
        is_eager=True,
        help="Quantise the result once it has passed its checks, and measure it beside the source quantised alike.",
    )
    samples = option(
        OUTPUT,
        "--quantize-on",
        type=ReadPath(dir_okay=False),
        metavar="FILE.npz",
        callback=_with_quantize,
        help="With --quantize: samples to compare on; int8 finds its scales of activations there.",
    )
    return kind(samples(command))


def _with_quantize(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and ctx.params.get("quantize") is None:
        raise click.UsageError("--quantize-on is for --quantize: give both")
    return value


def quantise_asked(values: dict[str, Any]) -> Any:
    """The request that ``--quantize`` and the options beside it come to."""
    from bot_onnx._cli.commands.quantize import quantise_request

    return quantise_request(values["quantize"], values["quantize_on"], values)


def resize_quantised(
    model: Path,
    request: ResizeRequest,
    output: Path,
    values: dict[str, Any],
    resize: Callable[[Path], Any],
    read_only: tuple[Path, ...],
) -> Any:
    """Resize, quantise, and show both reports.

    Args:
        model, request, output, values: of the command.
        resize: writes the floats to the path that it is given.
        read_only: files that no output may replace.

    Returns:
        The finished resize, whose output is the quantised file.
    """
    from dataclasses import replace

    from bot_onnx._quantise import make_and_quantise

    _check_once(request)
    silent = values["quiet"] or values["as_json"]
    with activity(f"reading {model.name}", silent=silent):
        made = make_and_quantise(model, output, quantise_asked(values), resize, read_only=read_only)
    result = replace(made.floats, output=output)
    _show_both(result, made.quantised, values)
    return result


def resize_folder_quantised(
    model: Model,
    request: ResizeRequest,
    values: dict[str, Any],
    resize: Callable[[], Any],
    read_only: tuple[Path, ...],
) -> Any:
    """Resize a folder: the one that is made holds the floats, and the quantised file beside them.

    Args:
        model: in its folder. request, values, read_only: as of :func:`resize_quantised`.
        resize: writes the folder.

    Returns:
        The finished resize.
    """
    from dataclasses import replace

    from bot_onnx._model import also_in_folder
    from bot_onnx._onnxfile.reader import open_model
    from bot_onnx._quantise import loosened, quantise
    from bot_onnx._quantise.jobs import check_quantisable
    from bot_onnx._report.quantise_report import scheme_note

    _check_once(request)
    asked = quantise_asked(values)
    made: list[Any] = []

    def beside(source: Path, floats: Path, final: Path) -> tuple[str, ...]:
        name = f"{floats.stem}_{IN_FOLDERS[asked.kind]}.onnx"
        how = replace(asked, given=loosened(asked), force=False)
        shown = f"{model.source}, resized"
        packed = quantise(floats, floats.with_name(name), how, shown=shown, read_only=read_only, beside=source)
        place = final.with_name(name)
        made.append(replace(packed, output=place, report=replace(packed.report, path=str(place))))
        return (scheme_note(floats.name, packed),)

    with activity(f"reading {model.source}", silent=values["quiet"] or values["as_json"]):
        with open_model(also_in_folder(model, beside), given=asked.given) as source:
            check_quantisable(source)
        result = resize()
    _show_both(result, made[0], values)
    return result


def _check_once(request: ResizeRequest) -> None:
    if request.requantize:
        raise click.UsageError("--requantize packs the result as the source is, --quantize in another way: choose one")


def _show_both(result: Any, packed: Any, values: dict[str, Any]) -> None:
    from bot_onnx._report.json_report import result_json
    from bot_onnx._report.quantise_report import quantise_json, quantise_report
    from bot_onnx._report.result_report import result_report

    with standing(result.output):
        if values["as_json"]:
            show_json({**result_json(result), "quantized": quantise_json(packed)})
        elif not values["quiet"]:
            show(result_report(result))
            show("")
            show(quantise_report(packed))

"""``--quantize`` of ``resize``: the published file is the quantised result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from bot_onnx._cli.failures import standing
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import OUTPUT, F, option
from bot_onnx._names import QuantiseKind
from bot_onnx._request import ResizeRequest


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
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.npz",
        callback=_with_quantize,
        help="With --quantize: samples to compare on; int8 finds its scales of activations there.",
    )
    return kind(samples(command))


def _with_quantize(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and ctx.params.get("quantize") is None:
        raise click.UsageError("--quantize-on is for --quantize: give both")
    return value


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

    from bot_onnx._cli.commands.quantize import quantise_request
    from bot_onnx._quantise import resize_and_quantise
    from bot_onnx._report.json_report import result_json
    from bot_onnx._report.quantise_report import quantise_json, quantise_report
    from bot_onnx._report.result_report import result_report

    if request.requantize:
        raise click.UsageError("--requantize packs the result as the source is, --quantize in another way: choose one")
    silent = values["quiet"] or values["as_json"]
    with activity(f"reading {model.name}", silent=silent):
        made = resize_and_quantise(
            model,
            output,
            quantise_request(values["quantize"], values["quantize_on"], values),
            resize,
            read_only=read_only,
        )
    result = replace(made.resized, output=output)
    with standing(output):
        if values["as_json"]:
            show_json({**result_json(result), "quantized": quantise_json(made.quantised)})
        elif not values["quiet"]:
            show(result_report(result))
            show("")
            show(quantise_report(made.quantised))
    return result

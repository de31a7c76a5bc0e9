"""``bot-onnx quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from bot_onnx._cli.failures import standing
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import (
    INPUTS,
    OUTPUT,
    SectionedCommand,
    external_asked,
    input_options,
    model_argument,
    model_output,
    option,
    read_inputs,
    shown_options,
)
from bot_onnx._cli.paths import ReadPath
from bot_onnx._names import QuantiseKind


@click.command(
    short_help="Turn a model's weights into 8, 4 or 16 bits, and measure what that costs.",
    cls=SectionedCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx quantize model.onnx --to int8 -o model-int8.onnx\n"
    "  bot-onnx quantize cnn.onnx --to int8 --calibration samples.npz\n"
    "  bot-onnx quantize model.onnx --to int4 --inputs samples.npz",
)
@model_argument
@option(
    OUTPUT,
    "--to",
    "kind",
    type=click.Choice(get_args(QuantiseKind)),
    required=True,
    help="int8: weights of 8 bits, a scale per channel; activations as the network runs, or by scales found on "
    "--calibration. int4: weights of products in blocks of 32. fp16: half precision.",
)
@model_output("MODEL-<type>.onnx beside MODEL")
@option(
    INPUTS,
    "--calibration",
    type=ReadPath(dir_okay=False),
    metavar="FILE.npz",
    help="Samples, an array per input: the files are compared on them, and int8 finds its scales of activations there.",
)
@input_options
@shown_options
def command(model: Path, kind: str, output: Path | None, calibration: Path | None, **values: Any) -> None:
    """Quantise MODEL, which has floating-point weights, and say what that costs and gains.

    onnxruntime's own quantisers do it. The output appears only when it is whole, loads and runs; the report says how
    far its outputs are from the floats', what was left, and how large and fast both files are.
    """
    from bot_onnx._quantise import quantise
    from bot_onnx._report.quantise_report import quantise_json, quantise_report

    given = [path for path in (values["inputs"],) if path is not None]
    request = quantise_request(kind, calibration, values)
    out = output if output is not None else model.with_name(f"{model.stem}-{kind}.onnx")
    with activity(f"reading {model.name}", silent=values["quiet"] or values["as_json"]):
        result = quantise(model, out, request, read_only=tuple(given))
    with standing(result.output):
        if values["as_json"]:
            show_json(quantise_json(result))
        elif not values["quiet"]:
            show(quantise_report(result))


def quantise_request(kind: Any, calibration: Path | None, values: dict[str, Any]) -> Any:
    """What the options come to."""
    from bot_onnx._quantise import QuantiseRequest
    from bot_onnx._runs.read_overrides import as_given

    read = read_inputs(values.get("inputs"), values.get("input_shapes", ()))
    given = as_given(read.get("inputs"), read.get("input_shapes"))
    return QuantiseRequest(kind, calibration, given, external_asked(values), values["force"])

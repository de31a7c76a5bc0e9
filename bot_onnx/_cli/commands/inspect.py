"""``bot-onnx inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import input_options, json_option, model_argument, read_inputs


@click.command(
    short_help="Show the dims, layers and stacks of a model, and what can be resized.",
    epilog="\b\nExamples:\n  bot-onnx inspect model.onnx\n  bot-onnx inspect model.onnx --energy",
)
@model_argument
@click.option("--energy", is_flag=True, help="Also how much of the weights' energy a halving keeps, per alignment.")
@input_options
@json_option
def command(model: Path, energy: bool, as_json: bool, inputs: Path | None, input_shapes: tuple[str, ...]) -> None:
    """Show the dims, layers and stacks of MODEL, and what of it can be resized.

    The names and ids of dims are those that 'resize --dim' takes.
    """
    from bot_onnx import api
    from bot_onnx._report.energy_report import energy_report
    from bot_onnx._report.inspect_report import inspect_report
    from bot_onnx._report.json_report import inspection_json
    from bot_onnx._report.values import plain

    with activity(f"analysing {model.name}", silent=as_json):
        given = read_inputs(inputs, input_shapes)
        inspection = api.inspect(model, **given)
        tables = api.energy(model, **given) if energy else ()
    if as_json:
        show_json(inspection_json(inspection) | ({"energy": plain(tables)} if energy else {}))
        return
    show(inspect_report(inspection))
    if energy:
        show(energy_report(tables, {dim.id: dim.name for dim in inspection.structure.dims.values()}))

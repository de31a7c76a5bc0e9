"""``bot-onnx inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from bot_onnx.cli.output import activity, show, show_json
from bot_onnx.cli.parameters import json_option, model_argument


@click.command(epilog="\b\nExample:\n  bot-onnx inspect model.onnx")
@model_argument
@json_option
def command(model: Path, as_json: bool) -> None:
    """Show the dims, layers and stacks of MODEL, and what of it can be resized.

    The names and ids of dims are those that 'resize --dim' takes.
    """
    from bot_onnx import api
    from bot_onnx.report import inspect_report, inspection_json

    with activity(f"analysing {model.name}", silent=as_json):
        inspection = api.inspect(model)
    if as_json:
        show_json(inspection_json(inspection))
    else:
        show(inspect_report(inspection))

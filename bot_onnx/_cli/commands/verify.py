"""``bot-onnx verify``."""

from __future__ import annotations

from pathlib import Path

import click

from bot_onnx._cli.failures import CHECK_FAILED
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import input_options, json_option, model_argument, read_inputs
from bot_onnx._cli.paths import Command, ReadModel, ReadSpec


@click.command(
    cls=Command,
    short_help="Check a model file, and compare it with its source.",
    epilog="\b\nExample:\n  bot-onnx verify small.onnx --spec small.json --against model.onnx",
)
@model_argument
@click.option(
    "--spec",
    type=ReadSpec(),
    metavar="FILE|NAME",
    help="Also check that the model has these sizes; a width needs --against.",
)
@click.option(
    "--against",
    type=ReadModel(),
    metavar="SOURCE",
    help="Also compare the outputs with those of this model, on the same inputs.",
)
@input_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    spec: str | None,
    against: Path | None,
    inputs: Path | None,
    input_shapes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check MODEL: its format, that it runs, that its structure is sound; exit code 3 if a check fails."""
    from bot_onnx import api
    from bot_onnx._cli.together import are_several
    from bot_onnx._report.json_report import verify_json
    from bot_onnx._report.verify_report import verify_report

    with activity(f"verifying {model.name}", silent=as_json):
        given = read_inputs(inputs, input_shapes)
        if against is not None and are_several([model], None):
            report = api.verify_together(model, against, spec=spec, **given)
        else:
            report = api.verify(model, spec=spec, against=against, **given)
    if as_json:
        show_json(verify_json(report))
    else:
        show(verify_report(report))
    if not report.passed:
        ctx.exit(CHECK_FAILED)

"""``bot-onnx report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bot_onnx._cli.output import activity, show_json
from bot_onnx._cli.parameters import (
    INPUTS,
    OUTPUT,
    SectionedCommand,
    arrays_option,
    model_argument,
    option,
    read_inputs,
    shapes_option,
    shown_options,
)
from bot_onnx._cli.paths import ReadModel, ReadPath, WrittenPath

SECTION = "Content"


@click.command(
    short_help="Write one HTML page of a model: blocks, costs, and sliders for its sizes.",
    cls=SectionedCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx report model.onnx -o report.html\n"
    "  bot-onnx report small.onnx --against model.onnx --latency -o report.html\n"
    "  bot-onnx fit model.onnx --max-size 20MB --json > fit.json\n"
    "  bot-onnx report model.onnx --fit fit.json -o report.html\n\n"
    "Needs the extra 'report' (jinja2).",
)
@model_argument
@option(
    OUTPUT,
    "--output",
    "-o",
    type=WrittenPath(dir_okay=False),
    metavar="OUT",
    help="The page; without it the model's name with .html, in the current folder.",
)
@option(OUTPUT, "--force", is_flag=True, help="Replace files that exist.")
@option(
    SECTION,
    "--against",
    type=ReadModel(),
    metavar="SOURCE",
    help="Sizes before and after, and the energy that is kept: what MODEL was resized from.",
)
@option(
    SECTION,
    "--fit",
    type=ReadPath(dir_okay=False),
    metavar="FILE",
    help="Draw the candidates that 'fit --json' printed.",
)
@option(SECTION, "--latency", is_flag=True, help="Time a run in onnxruntime, on this machine's CPU.")
@arrays_option
@shapes_option(
    "--input-shape",
    "--shape",
    metavar="NAME=1x128",
    help="The shape to count and time an input at; may be given for several inputs.",
)
@option(INPUTS, "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of timed runs.")
@shown_options
def command(model: Path, output: Path | None, **values: Any) -> None:
    """Write one HTML page of MODEL that needs no network: its blocks, its costs, and sliders for its sizes.

    What the sliders say of other sizes is what the plan of a resize says, and the page has the command for it.
    """
    from bot_onnx._page import report

    output = Path(f"{model.stem or 'model'}.html") if output is None else output
    quiet, as_json = values["quiet"], values["as_json"]
    with activity(f"analysing {model.name}", silent=quiet or as_json) as bar:
        made = report(
            model,
            output,
            against=values["against"],
            fit=values["fit"],
            latency=values["latency"],
            threads=values["threads"],
            force=values["force"],
            progress=bar.update if bar is not None else None,
            **read_inputs(values["inputs"], values["input_shapes"]),
        )
    size = len(made.html.encode())
    if as_json:
        show_json({"output": str(output), "bytes": size, "data": made.data})
    elif not quiet:
        from bot_onnx._report.units import size as readable

        click.echo(f"Wrote {output} ({readable(size)}): one page, which needs no network.")

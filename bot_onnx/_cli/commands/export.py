"""``bot-onnx export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bot_onnx._cli.output import activity
from bot_onnx._cli.parameters import OUTPUT, SectionedCommand, model_argument, option, shown_options
from bot_onnx._cli.paths import ReadCheckpoint, ReadPath, WrittenPath
from bot_onnx._cli.weights import NAMES, naming_options, show_transfer


@click.command(
    short_help="Write a model's weights for the framework it came from.",
    cls=SectionedCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx export small.onnx --to safetensors -o small/model.safetensors --hf bert/config.json\n"
    "  bot-onnx export small.onnx --to safetensors --like bert/model.safetensors",
)
@model_argument
@option(
    OUTPUT,
    "--to",
    "form",
    type=click.Choice(["safetensors"]),
    default="safetensors",
    show_default=True,
    help="Format of the output.",
)
@option(
    OUTPUT,
    "--output",
    "-o",
    type=WrittenPath(dir_okay=False),
    default=Path("model.safetensors"),
    show_default=True,
    metavar="OUT",
    help="The file to write.",
)
@option(
    OUTPUT,
    "--hf",
    "config",
    type=ReadPath(inside="config.json"),
    metavar="CONFIG",
    help="The source's config.json: the target's is written beside OUT, so that from_pretrained loads the folder.",
)
@option(OUTPUT, "--force", is_flag=True, help="Replace files that exist.")
@option(
    NAMES,
    "--like",
    type=ReadCheckpoint(),
    metavar="CHECKPOINT",
    help="A safetensors file (or folder) whose keys are the right ones: the source's, or one of MODEL's size.",
)
@naming_options
@option(NAMES, "--partial", is_flag=True, help="Leave out what the checkpoint has and MODEL has not.")
@shown_options
def command(model: Path, form: str, output: Path, config: Path | None, **values: Any) -> None:
    """Write MODEL's weights under the framework's own names and with its axes, ready to be trained on.

    A tensor whose key is not certain is refused by name; --like, --source and --names tell.
    """
    from bot_onnx._checkpoint import jobs

    with activity(f"reading {model.name}", silent=values["quiet"] or values["as_json"]):
        transfer = jobs.export_weights(
            model,
            output,
            like=values["like"],
            source=values["source"],
            names=values["names"],
            strip=values["strip"],
            partial=values["partial"],
            config=config,
            force=values["force"],
        )
    show_transfer(transfer, values)

"""``bot-onnx import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bot_onnx._cli.output import activity
from bot_onnx._cli.parameters import (
    OUTPUT,
    SectionedCommand,
    external_asked,
    model_argument,
    model_output,
    option,
    shown_options,
)
from bot_onnx._cli.paths import ReadCheckpoint
from bot_onnx._cli.weights import NAMES, naming_options, show_transfer


@click.command(
    short_help="Put a framework's trained weights back into a model.",
    cls=SectionedCommand,
    epilog="\b\nExample:\n  bot-onnx import small.onnx --from trained/model.safetensors -o trained.onnx",
)
@model_argument
@option(
    OUTPUT,
    "--from",
    "weights",
    type=ReadCheckpoint(),
    required=True,
    metavar="CHECKPOINT",
    help="A safetensors file (or folder) of MODEL's size.",
)
@model_output("MODEL-trained.onnx beside MODEL")
@option(OUTPUT, "--cast", is_flag=True, help="Round the values to MODEL's data type.")
@option(
    NAMES,
    "--like",
    type=ReadCheckpoint(),
    metavar="CHECKPOINT",
    help="Where names are lost: a checkpoint with the values that MODEL (or the model of --source) still holds.",
)
@naming_options
@shown_options
def command(model: Path, weights: Path, output: Path | None, **values: Any) -> None:
    """Write a copy of MODEL that holds a framework's trained weights.

    The output appears only when it is whole and verified; MODEL is never written to.
    """
    from bot_onnx._checkpoint import jobs

    with activity(f"reading {model.name}", silent=values["quiet"] or values["as_json"]):
        transfer = jobs.import_weights(
            model,
            weights,
            output if output is not None else model.with_name(f"{model.stem}-trained.onnx"),
            like=values["like"],
            source=values["source"],
            names=values["names"],
            strip=values["strip"],
            cast=values["cast"],
            force=values["force"],
            external=external_asked(values),
        )
    show_transfer(transfer, values)

"""``--learn`` of ``resize``: the operators are trained before they make the weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from click.core import ParameterSource

from bot_onnx._cli.commands.recover import data_options, reading_options
from bot_onnx._cli.parameters import F, option
from bot_onnx._cli.paths import ReadData
from bot_onnx._request import Learning

LEARNING = "Learned operators (with the extra 'recover')"
STD = "--pixel-std"  #: ``--std`` is scratch's
#: Parameters that say something of a training alone.
OF_LEARNING = frozenset(
    "learn learn_rate learn_batch learn_mix data field length image_size mean std preprocessor seconds held_out".split()
)  # --tokenizer is also that of a vocabulary


def learn_options(command: F) -> F:
    """Add ``--learn`` and what belongs to it; :func:`asked_learning` reads them."""
    command = reading_options(command, STD)
    data = option(
        "Data",
        "--data",
        type=ReadData(),
        metavar="DATA",
        help="For --learn: a folder of images, a text file with a sample a line, or an .npz file with an array per "
        "input. No labels.",
    )
    mix = option(
        LEARNING,
        "--learn-mix",
        is_flag=True,
        help="Also make every weight matrix of a layer of all of them (Mango's operator of blocks).",
    )
    batch = option(
        LEARNING, "--learn-batch", type=click.IntRange(min=2), default=32, show_default=True, help="Samples an update."
    )
    rate = option(
        LEARNING,
        "--learn-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=Learning.RATE,
        show_default=True,
        help="Largest learning rate: it rises over the first twentieth of the steps, and falls as a cosine.",
    )
    steps = option(
        LEARNING,
        "--learn",
        type=click.IntRange(min=1),
        metavar="STEPS",
        help="Train the method's operators on --data before they make the weights (LiGO): the result learns to answer "
        "as MODEL does, of which each weight stays a function. `recover` trains the weights themselves.",
    )
    return steps(rate(batch(mix(data(command)))))


def asked_learning(ctx: click.Context, values: dict[str, Any]) -> Learning | None:
    """The training that was asked for.

    Raises:
        click.UsageError: an option of it is given without ``--learn``, or ``--learn`` without data.
    """
    if values["learn"] is None:
        for param in ctx.command.get_params(ctx):
            given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
            if given and param.name in OF_LEARNING:
                raise click.UsageError(f"'{param.opts[0]}' is for '--learn': give both.")
        return None
    if values["data"] is None:
        raise click.UsageError("'--learn' trains on data: give '--data' a folder of images, a text or an .npz file.")
    return Learning(
        steps=values["learn"],
        data=values["data"],
        rate=values["learn_rate"],
        batch=values["learn_batch"],
        mix=values["learn_mix"],
        held_out=values["held_out"],
        reading=asdict(data_options(values, STD)),
    )

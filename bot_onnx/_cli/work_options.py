"""Who makes the weights of a resize, and what is kept of it where it ends before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bot_onnx._cli.folders import is_folder
from bot_onnx._cli.parameters import OUTPUT, WORK, F, option
from bot_onnx._request import ResizeRequest
from bot_onnx._workers import Pool


def work_options(command: F) -> F:
    """``--resume``, ``--jobs`` and ``--scheduler``."""
    for decorate in (
        option(
            WORK,
            "--scheduler",
            metavar="ADDRESS",
            help="Of a Dask scheduler whose workers make the weights: tcp://host:8786.",
        ),
        option(
            WORK,
            "--jobs",
            type=click.IntRange(min=1),
            metavar="N",
            help="Processes here that make the weights (extra 'sweep'), default this one. Keeps work as --resume.",
        ),
        option(
            OUTPUT,
            "--resume",
            is_flag=True,
            default=None,
            help="Keep finished tensors in OUT.resize; after a kill the same command goes on from there.",
        ),
    ):
        command = decorate(command)
    return command


def work_asked(model: Path, request: ResizeRequest, values: dict[str, Any]) -> dict[str, Any]:
    """How the work is done: ``resume``, ``jobs`` and ``scheduler`` of :meth:`bot_onnx._model.Model.resize`.

    Raises:
        click.UsageError: it is work that cannot be kept, or shared.
    """
    jobs, scheduler = values["jobs"] or 1, values["scheduler"]
    if jobs > 1 and scheduler is not None:
        raise click.UsageError("'--jobs' are processes here, '--scheduler' has workers of its own: give one of them.")
    whole = is_folder(model) or values["quantize"] is not None or request.learn is not None or request.requantize
    shared = Pool(jobs, scheduler).flag
    asked, what = (shared, "shares") if shared else ("--resume" if values["resume"] else None, "keeps")
    if asked and whole:
        raise click.UsageError(f"'{asked}' {what} the work on one .onnx file that is neither trained nor quantised.")
    return {"resume": bool(values["resume"]), "jobs": jobs, "scheduler": scheduler}

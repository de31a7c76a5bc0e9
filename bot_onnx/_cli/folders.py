"""Where outputs may go, and what ``resize`` does of a folder: a folder comes of it, and it says what that lacks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot_onnx.errors import OutputError

if TYPE_CHECKING:
    from bot_onnx._model import Model
    from bot_onnx._surgery.types import Plan


def is_folder(model: Path) -> bool:
    """Whether MODEL is a folder, here or on the hub."""
    from bot_onnx._folders.hub import is_hub_name

    return is_hub_name(str(model)) or model.is_dir()


def is_within(file: Path, model: Path) -> bool:
    """Whether a file to be lies in MODEL, where that is a folder."""
    return model.is_dir() and Path(os.path.realpath(file)).is_relative_to(os.path.realpath(model))


def check_beside(flag: str, path: Path, model: Path, output: Path | None, *, force: bool) -> None:
    """Refuse a file that is written beside the output where it would replace the model, or something that is made.

    Args:
        flag: the option that names it. path: what it names.
        model, output: what the command reads and makes, with the data files that they name; None: it makes none.
        force: replace one that exists.

    Raises:
        OutputError: it may not be written.
    """
    from bot_onnx._onnxfile.data_files import named_files
    from bot_onnx._onnxfile.read_only import is_same
    from bot_onnx._onnxfile.writer import check_output

    if output is not None and is_same(path, output):
        raise OutputError(f"{flag} {path}: that is the output's name; give it a file of its own")
    if is_within(path, model):
        raise OutputError(f"{flag} {path} lies in {model}, which is never written to: name another")
    models = [model] if output is None else [model, output]
    data = [file for each in models for file in named_files(each)]
    try:
        check_output(path, force=force, sources=[*models, *data])
    except OutputError as error:
        raise OutputError(f"{flag}: {error}") from error


def default_folder(model: Path, file: Path) -> Path:
    """The folder that comes of a folder, from the name of the file that would come of a file in its place.

    One of the hub goes where the command is run.
    """
    name = file.name.removesuffix(".onnx")
    return Path(name) if str(model).startswith("hf:") else file.with_name(name)


def told(model: Model, plan: Plan, *, silent: bool) -> Plan:
    """Say on stderr what the folder that is written cannot say.

    Returns:
        The plan without these notes, for the report.
    """
    notes = model.folder_notes(plan)
    if not silent:
        for note in notes:
            click.echo(f"Note: {note}", err=True)
    return replace(plan, notes=tuple(note for note in plan.notes if note not in notes))

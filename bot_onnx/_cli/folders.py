"""What ``bot-onnx resize`` does where MODEL is a folder: of a folder comes a folder, and it says what that lacks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

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

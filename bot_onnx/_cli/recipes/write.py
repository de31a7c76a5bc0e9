"""A recipe made of a command that was given: ``resize … --recipe-out recipe.yaml``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bot_onnx._cli.paths import ReadSpec
from bot_onnx._cli.recipes.options import OWN
from bot_onnx._cli.recipes.read import PLAIN


def recipe_of(context: click.Context, model: Path, output: Path, path: Path) -> str:
    """The text of a recipe with the one step that a command line stands for.

    YAML, in which every value is written as JSON (which YAML takes); JSON where the file is to end in it.

    Args:
        context: of the command. model, output: what it reads and makes. path: where the recipe will lie.
    """
    options: dict[str, Any] = {}
    for param in context.command.get_params(context):
        word = param.opts[0].removeprefix("--")
        given = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if isinstance(param, click.Option) and given and word not in OWN:
            options[word] = _value(param, context.params[str(param.name)], path)
    command = str(context.info_name)
    told = {"model": _from(path, model), "output": _from(path, output), "steps": [{command: options}]}
    if path.suffix.lower() == ".json":
        return json.dumps(told, indent=2) + "\n"
    lines = [f"{key}: {json.dumps(told[key])}" for key in ("model", "output")]
    lines += ["steps:", f"  - {command}:", *(f"      {word}: {json.dumps(one)}" for word, one in options.items())]
    return "\n".join(lines) + "\n"


def _value(param: click.Option, value: Any, path: Path) -> Any:
    if param.is_flag and not param.secondary_opts:
        return True
    if isinstance(param.type, click.Path) or (isinstance(param.type, ReadSpec) and Path(value).exists()):
        return _from(path, Path(value))
    if isinstance(value, PLAIN | dict):
        return value
    return list(value)


def _from(recipe: Path, file: Path) -> str:
    """A path as it is seen from the recipe's folder."""
    try:
        return Path(os.path.relpath(file, recipe.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return str(file.absolute())

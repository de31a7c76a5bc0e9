"""``resize`` and ``verify`` of several files that are used one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.failures import standing
from bot_onnx._cli.folders import default_folder, is_folder
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._request import ResizeRequest

if TYPE_CHECKING:
    from bot_onnx._together import Together

#: Options that are of one model, with their names.
_OF_ONE = {
    "plan_out": "--plan-out",
    "against_plan": "--against-plan",
    "recipe_out": "--recipe-out",
    "quantize": "--quantize",
    "plan": "--plan",
    "resume": "--resume",
    "jobs": "--jobs",
    "scheduler": "--scheduler",
    "learn": "--learn",
    "vocab_from": "--vocab-from",
    "vocab_keep": "--vocab-keep",
}


def are_several(models: Sequence[Path], file: str | None) -> bool:
    """Whether several files are meant: given one by one, or as a folder that holds them."""
    if len(models) > 1:
        return True
    if file is not None or not is_folder(models[0]):
        return False
    from bot_onnx._folders import holds_several

    return holds_several(models[0])


def check_options(models: Sequence[Path], values: Mapping[str, Any]) -> None:
    """Refuse what is of one model.

    Raises:
        click.UsageError: names the option.
    """
    if len(models) > 1 and values["file"] is not None:
        raise click.UsageError("'--file' takes one model out of a folder: several files are given.")
    for key, flag in _OF_ONE.items():
        if values[key] not in (None, ()):
            raise click.UsageError(
                f"'{flag}' is of one model: several are resized here (of a folder take one: --file)."
            )


def resize_files(models: Sequence[Path], request: ResizeRequest, default: Path, values: Mapping[str, Any]) -> None:
    """Resize them all, into a folder.

    Args:
        models: the files, or their folder. request: what is asked. default: name of a file, where no output is given.
        values: of the command's options.
    """
    from bot_onnx._together import plan_together, resize_together

    given: Any = models[0] if len(models) == 1 else list(models)
    output = values["output"]
    if output is None:
        output = default_folder(models[0], default)
    silent = values["quiet"] or values["as_json"]
    with activity(f"reading {models[0].name}", silent=silent):
        if values["dry_run"]:
            made = plan_together(given, request, connect=values["connect"])
        else:
            made = resize_together(given, request, output, connect=values["connect"], force=values["force"])
    with standing(made.output):
        _show(made, values)
    if values["dry_run"] and not silent:
        click.echo(f"Dry run: {output} was not written.", err=True)


def _show(made: Together, values: Mapping[str, Any]) -> None:
    from bot_onnx._report.json_report import together_json
    from bot_onnx._report.together_report import together_report

    if not values["quiet"]:
        for note in made.notes:
            click.echo(f"Note: {note}", err=True)
    if values["as_json"]:
        show_json(together_json(made))
    elif not values["quiet"]:
        show(together_report(made))

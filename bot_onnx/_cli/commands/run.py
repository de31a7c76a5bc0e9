"""``bot-onnx run``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot_onnx._cli.failures import named_stdout, standing
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import SectionedCommand, option, shown_options
from bot_onnx._cli.paths import ReadPath

if TYPE_CHECKING:
    from bot_onnx._cli.recipes.read import Step

SECTION = "Recipe"


@click.command(
    short_help="Carry out a recipe: resize, recover, quantize, verify and a card, in one file.",
    cls=SectionedCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx run --example > recipe.yaml\n"
    "  bot-onnx run recipe.yaml --dry-run\n"
    "  bot-onnx run recipe.yaml --from quantize",
)
@click.argument("recipe", type=ReadPath(dir_okay=False), required=False)
@option(SECTION, "--example", is_flag=True, help="Print a recipe to start from.")
@option(SECTION, "--dry-run", is_flag=True, help="Check the recipe, and say what would be done.")
@option(SECTION, "--from", "start", metavar="STEP", help="Make this step and all behind it again, changed or not.")
@option(SECTION, "--force", is_flag=True, help="Replace an output that this recipe did not write.")
@shown_options
def command(
    recipe: Path | None, example: bool, dry_run: bool, start: str | None, force: bool, as_json: bool, quiet: bool
) -> None:
    """Carry out RECIPE, a file in YAML (the extra 'recipes'), TOML or JSON: steps on one model, in order.

    Every step's options are those of its command. What is done stays done as long as its inputs and options are the
    same: a run that was interrupted, or whose recipe was changed, makes the rest. The output appears when it is whole.
    """
    if example or recipe is None:
        _print_example(example, recipe)
        return
    from bot_onnx._cli.recipes.job import run_recipe
    from bot_onnx._cli.recipes.read import read_recipe
    from bot_onnx._recover.ranks import check_alone
    from bot_onnx._report.recipe_report import recipe_json, recipe_report

    check_alone("a recipe")
    silent = quiet or as_json

    @contextmanager
    def around(step: Step, number: int, count: int) -> Iterator[None]:
        """Say what is going on: on a bar, or in a line a step where there is no terminal."""
        began = time.monotonic()
        doing = f"step {number} of {count}: {step.name}"
        with activity(doing, silent=silent, counted=step.command == "recover"):
            yield
        if not silent:
            print(f"{doing}, {time.monotonic() - began:.1f} s", file=sys.stderr)

    ran = run_recipe(read_recipe(recipe), around, start=start, force=force, dry_run=dry_run)
    with standing(None if dry_run else ran.output):
        if as_json:
            show_json(recipe_json(ran.steps, ran.output, ran.seconds))
        elif not quiet:
            show(recipe_report(ran.steps, ran.output, dry_run=dry_run))


def _print_example(example: bool, recipe: Path | None) -> None:
    if not example:
        raise click.UsageError("Missing argument 'RECIPE'; --example prints one to start from.")
    if recipe is not None:
        raise click.UsageError("'--example' prints a recipe, and carries out none: leave RECIPE out.")
    from bot_onnx._cli.recipes.example import EXAMPLE

    with named_stdout():
        click.echo(EXAMPLE, nl=False)

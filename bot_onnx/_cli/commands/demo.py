"""``bot-onnx demo``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import json_option
from bot_onnx._cli.paths import Command, WrittenPath
from bot_onnx.errors import OutputError, VerifyError

if TYPE_CHECKING:
    from bot_onnx._cli.demo_job import Outcome


@click.command(
    cls=Command,
    short_help="Shrink and grow a small trained model that ships inside, and measure it.",
    epilog="\b\nExample:\n  bot-onnx demo --keep digits",
)
@click.option("--keep", type=WrittenPath(file_okay=False), metavar="DIR", help="Keep both models here.")
@json_option
def command(keep: Path | None, as_json: bool) -> None:
    """Shrink and grow a small trained model that ships inside, and measure all three.

    It is a Vision Transformer that reads 8 x 8 digits. Takes seconds and needs onnxruntime. Exit code 3 if growing
    changed one prediction.
    """
    from bot_onnx._cli.demo_job import run_demo
    from bot_onnx._report.values import plain
    from bot_onnx.demo import model_file

    with activity("running the demo", silent=as_json), _folder(keep) as folder, model_file() as model:
        outcome = run_demo(model, folder, lambda line: None if as_json else click.echo(line, err=True))
    if as_json:
        show_json(plain(outcome) | {"exact": outcome.exact})
    else:
        _show(outcome, keep)
    if not outcome.exact:
        raise VerifyError(
            f"growing changed {_changed(outcome)} of {outcome.images} predictions, and must keep all of them; please "
            "report this with the versions of numpy and onnxruntime."
        )


def _show(outcome: Outcome, keep: Path | None) -> None:
    from bot_onnx._report.demo_report import demo_report

    show(demo_report(outcome.rows, outcome.images))
    click.echo(f"Both new models passed their checks ({outcome.checks} in all), onnxruntime among them.")
    if outcome.exact:
        click.echo(f"Growing kept all {outcome.images} predictions: it adds capacity without changing the function.")
    click.echo(
        "Shrinking keeps structure and a starting point, not accuracy: the shrunk model has lost accuracy until it is "
        "trained again."
    )
    if keep is not None:
        click.echo(f"The models are in {keep}.")


def _changed(outcome: Outcome) -> int:
    return round((1 - (outcome.grown.kept or 0)) * outcome.images)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A folder for the two models: the one to keep, or one that is removed afterwards.

    Raises:
        OutputError: the folder to keep already holds models.
    """
    if keep is None:
        from bot_onnx._onnxfile.scratch import Scratch, sweep

        temporary = Path(tempfile.gettempdir())
        sweep(temporary)
        with Scratch(temporary, "bot-onnx-demo") as folder:
            (folder / "models").mkdir()
            yield folder / "models"
        return
    keep.mkdir(parents=True, exist_ok=True)
    there = sorted(entry.name for entry in keep.glob("*.onnx"))
    if there:
        raise OutputError(f"--keep {keep}: the folder already holds {', '.join(there[:3])}; give an empty one.")
    yield keep

"""``bot-onnx sweep``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.commands.recover import data_options, reading_options
from bot_onnx._cli.failures import standing
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import (
    INPUTS,
    OUTPUT,
    WORK,
    MethodsCommand,
    Sectioned,
    model_argument,
    option,
    read_inputs,
    shapes_option,
    shown_options,
)
from bot_onnx._cli.paths import ReadData, ReadPath, ReadScore, ReadSpec, WrittenPath
from bot_onnx._cli.request_options import ASKED, request_options
from bot_onnx._request import ResizeRequest

if TYPE_CHECKING:
    from bot_onnx._sweep.types import Sweep, Teaching

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # which older versions of click do not make generic

SPACE, SCORE, TEACHING = "Space", "Score", "Recovery"


class Several(_ParamType):
    """Values between commas, each read as by the type of one."""

    name = "several"

    def __init__(self, one: click.ParamType[Any]) -> None:
        self._one = one

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        return tuple(self._one.convert(part, param, ctx) for part in parts if part)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What one may be, as often as one likes."""
        return f"{self._one.get_metavar(param, ctx) or self._one.name.upper()},..."


class SweepCommand(MethodsCommand):
    """Takes several values for each of the methods' options."""

    before = SCORE

    def as_taken(self, param: click.Parameter) -> click.Parameter:
        """The parameter for several values."""
        assert isinstance(param, click.Option)
        return Sectioned(
            [param.opts[0], str(param.name)],
            section=getattr(param, "section", SPACE),
            type=Several(param.type),
            default=param.default,
            show_default=param.name == "method",
            help=param.help,
        )


@click.command(
    short_help="Resize a model by many specs, methods and options, score and rank the results.",
    cls=SweepCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx sweep model.onnx --spec a.json --spec b.json --wavelet haar,db2\n"
    "  bot-onnx sweep model.onnx --spec a.json --method bot,front --score my.py:score -o best.onnx\n"
    "  bot-onnx sweep model.onnx --spec a.json --wavelet db2,sym4 --scheduler tcp://10.0.0.1:8786",
)
@model_argument
@option(
    SPACE,
    "--spec",
    "specs",
    type=ReadSpec(),
    multiple=True,
    required=True,
    metavar="SPEC",
    help="A target: a file, or the name of a published one; may be given several times.",
)
@option(
    SCORE,
    "--score",
    type=ReadScore(),
    default="cosine",
    show_default=True,
    metavar="FILE.py:FUNCTION",
    help="A function of the path of a model, which gives a number; or 'cosine': of the outputs with the source's; or "
    "'agreement': how often, on --inputs, the largest logit is where the source has it.",
)
@option(SCORE, "--minimize", is_flag=True, help="Lower scores are better.")
@option(
    TEACHING,
    "--recover",
    "steps",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Train each model by MODEL, as 'recover' does, before it is scored.",
)
@option(
    TEACHING,
    "--data",
    type=ReadData(),
    metavar="DATA",
    help="For it: a folder of images, a text file with a sample a line, or an .npz file with an array per input.",
)
@option(TEACHING, "--batch", type=click.IntRange(min=2), default=32, show_default=True, help="Samples an update.")
@option(
    TEACHING,
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Largest learning rate.",
)
@reading_options
@option(
    WORK,
    "--study",
    type=WrittenPath(dir_okay=False),
    metavar="FILE.db",
    help="Where results are kept, to go on from; default: sweep.db beside OUT, or beside MODEL.",
)
@option(WORK, "--jobs", type=click.IntRange(min=1), metavar="N", help="Processes here; default: one a processor.")
@option(WORK, "--scheduler", metavar="ADDRESS", help="Of a Dask scheduler whose workers do the work: tcp://host:8786.")
@option(
    WORK,
    "--sampler",
    type=click.Choice(["grid", "tpe", "random"]),
    default="grid",
    show_default=True,
    help="grid: all combinations; tpe: what looks promising; random: any.",
)
@option(
    WORK, "--trials", type=click.IntRange(min=1), metavar="N", help="Combinations to try; all of a grid without it."
)
@option(OUTPUT, "--output", "-o", type=WrittenPath(dir_okay=False), metavar="OUT", help="The best model.")
@option(
    OUTPUT,
    "--keep",
    type=WrittenPath(file_okay=False),
    metavar="FOLDER",
    help="Keep the model of every combination there.",
)
@option(
    OUTPUT,
    "--table",
    type=WrittenPath(dir_okay=False),
    metavar="FILE.csv",
    help="Also write the ranking as CSV.",
)
@option(OUTPUT, "--force", is_flag=True, help="Replace files that exist.")
@request_options
@option(
    INPUTS,
    "--inputs",
    type=ReadPath(dir_okay=False),
    metavar="FILE.npz",
    help="An array per input of the model, to run it on; without it inputs are made up.",
)
@shapes_option(
    "--input-shape",
    metavar="NAME=2x3x64x64",
    help="The shape to run an input at, where it cannot be guessed; may be given for several inputs.",
)
@shown_options
@click.pass_context
def command(ctx: click.Context, /, model: Path, specs: tuple[str, ...], **values: Any) -> None:
    """Resize MODEL by every combination of specs, methods and their options; score and rank the results.

    MODEL may be a folder with one; the best model is a file all the same. Needs the extra 'sweep'. Options of methods
    take several values: --wavelet haar,db2. A sweep that was interrupted, or killed, goes on when it is called again
    in the same way: what is finished is not made again.
    """
    from bot_onnx._cli.method_options import PREFIX
    from bot_onnx._report.sweep_report import sweep_csv, sweep_json, sweep_report
    from bot_onnx._resample.parallel import processor_count
    from bot_onnx._sweeping import sweep

    options = {key.removeprefix(PREFIX): value for key, value in values.items() if key.startswith(PREFIX)}
    silent = values["quiet"] or values["as_json"]
    _check_table(values)
    _check_inputs(values)
    teaching = _teaching(model, values)
    with activity(f"reading {model.name}", silent=silent, counted=True) as bar:
        found = sweep(
            model,
            specs,
            methods=values["method"],
            options={name: several for name, several in options.items() if several is not None},
            request=_request(values),
            recover=teaching,
            progress=bar.update if bar is not None else None,
            jobs=values["jobs"] or processor_count(),
            **{name: values[name] for name in _PASSED},
        )
    with standing(found.output):
        if values["table"] is not None:
            from bot_onnx._onnxfile.writer import write_text

            write_text(values["table"], sweep_csv(found), force=values["force"], sources=[found.study])
        if values["as_json"]:
            show_json(sweep_json(found))
        elif not values["quiet"]:
            show(sweep_report(found))
    _refuse_empty(found)


_PASSED = ("score", "minimize", "study", "output", "keep", "sampler", "trials", "scheduler", "force")


def _teaching(model: Path, values: dict[str, Any]) -> Teaching | None:
    """The training that ``--recover`` asks for."""
    if values["steps"] is None:
        if values["data"] is not None:
            raise click.UsageError("'--data' is what models are trained on: give --recover STEPS with it.")
        return None
    if values["data"] is None:
        raise click.UsageError("'--recover' trains on data: give --data with it.")
    from bot_onnx._recover.text import TOKENIZER
    from bot_onnx._recover.types import Settings
    from bot_onnx._sweep.types import Teaching

    settings = Settings(**{name: values[name] for name in ("steps", "batch", "rate", "seed", "held_out")})
    options = data_options(values)
    beside = model / TOKENIZER if model.is_dir() else model.absolute().with_name(TOKENIZER)
    tokenizer = beside if options.tokenizer is None and beside.is_file() else options.tokenizer
    options = replace(options, tokenizer=None if tokenizer is None else tokenizer.absolute())
    return Teaching(str(values["data"].absolute()), settings, options)


def _request(values: dict[str, Any]) -> ResizeRequest:
    given = read_inputs(None, values["input_shapes"])
    shapes = given.get("input_shapes")
    inputs = None if values["inputs"] is None else str(values["inputs"].absolute())
    asked = {name: values[name] for name in ASKED}
    if asked["calibration"] is not None:
        asked["calibration"] = os.path.abspath(asked["calibration"])
    return ResizeRequest({}, inputs=inputs, input_shapes=shapes, **asked)


def _check_inputs(values: dict[str, Any]) -> None:
    """Refuse samples that cannot be read before any trial is begun."""
    if values["inputs"] is not None:
        read_inputs(values["inputs"], ())


def _check_table(values: dict[str, Any]) -> None:
    """Refuse, before any work, a table that cannot be written.

    Raises:
        OutputError: it cannot.
    """
    from bot_onnx._onnxfile.writer import check_output

    if values["table"] is not None:
        check_output(values["table"], force=values["force"])


def _refuse_empty(found: Sweep) -> None:
    """End with an error where there is nothing to rank.

    Raises:
        BotError: no combination has a score.
    """
    from bot_onnx.errors import BotError

    if found.best is None:
        first = found.trials[0].outcome if found.trials else None
        told = f", the first one for: {first.reason}" if first is not None else ""
        raise BotError(f"none of the {len(found.trials)} combinations has a score{told}")

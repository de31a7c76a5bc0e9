"""What several commands share: arguments, options, and help that groups them under headings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bot_onnx._cli.paths import Command, ReadModel, ReadPath, WrittenPath
from bot_onnx._shards import External, Shards

OUTPUT, SHOWN, INPUTS, WORK = "Output", "Reporting", "Inputs", "Work"  #: headings that several commands have

F = TypeVar("F", bound=Callable[..., Any])

model_argument = click.argument("model", type=ReadModel())
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


class Sectioned(click.Option):
    """An option that stands under a heading of its own in the help."""

    def __init__(self, *args: Any, section: str = "Other", **kwargs: Any) -> None:
        """Take what :class:`click.Option` takes, and the heading."""
        super().__init__(*args, **kwargs)
        self.section = section


def option(section: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """A click option under a heading."""
    return click.option(*names, cls=Sectioned, section=section, **settings)


def model_output(unnamed: str, *, folders: bool = False) -> Callable[[F], F]:
    """``--output``, ``--force``, ``--external/--inline`` and ``--shard-size`` of a command that writes a model.

    Args:
        unnamed: where the model goes without ``--output``, for the help.
        folders: the output may be a folder.
    """

    def add(command: F) -> F:
        for decorate in (
            option(
                OUTPUT,
                "--shard-size",
                metavar="2GB",
                help="Weights in several files beside the model, none larger (but for a tensor that is).",
            ),
            option(
                OUTPUT,
                "--external/--inline",
                default=None,
                help="Weights in a file beside the model, or inside it; without either as MODEL has them.",
            ),
            option(OUTPUT, "--force", is_flag=True, help="Replace files that exist."),
            option(
                OUTPUT,
                "--output",
                "-o",
                type=WrittenPath(dir_okay=folders),
                metavar="OUT",
                help=f"The new model; without it {unnamed}.",
            ),
        ):
            command = decorate(command)
        return command

    return add


def external_asked(values: dict[str, Any]) -> External | None:
    """What ``--external/--inline`` and ``--shard-size`` come to.

    Raises:
        click.UsageError: they contradict one another. OutputError: a size that is none.
    """
    if values["shard_size"] is None:
        external: bool | None = values["external"]
        return external
    if values["external"] is False:
        raise click.UsageError("'--shard-size' is of weights beside the model, '--inline' has them inside: choose one.")
    return Shards.of(values["shard_size"])


def input_options(command: F) -> F:
    """Add ``--inputs`` and ``--input-shape``: what the models are run on."""
    told = "The shape to run an input at, where it cannot be guessed; may be given for several inputs."
    return arrays_option(shapes_option("--input-shape", metavar="NAME=2x3x64x64", help=told)(command))


def arrays_option(command: F) -> F:
    """Add ``--inputs``."""
    return option(
        INPUTS,
        "--inputs",
        type=ReadPath(dir_okay=False),
        metavar="FILE.npz",
        help="An array per input of the model, to run it on; without it inputs are made up.",
    )(command)


def shapes_option(*flags: str, metavar: str, help: str) -> Callable[[F], F]:
    """Add the option that says shapes of inputs, for :func:`read_inputs`."""
    return option(INPUTS, *flags, "input_shapes", multiple=True, metavar=metavar, help=help)


def read_inputs(inputs: Path | None, shapes: tuple[str, ...]) -> dict[str, Any]:
    """The two options as keywords of the API."""
    if inputs is None and not shapes:
        return {}
    from bot_onnx._runs.read_overrides import read_given

    given = read_given(inputs, shapes)
    return {"inputs": given.arrays, "input_shapes": given.shapes}


def shown_options(command: F) -> F:
    """Add ``--json`` and ``--quiet``."""
    quiet = option(SHOWN, "--quiet", "-q", is_flag=True, help="Print nothing but errors (and JSON, with --json).")
    as_json = option(SHOWN, "--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
    return as_json(quiet(command))


class SectionedCommand(Command):
    """A command whose help lists its options by heading, in the order in which they were declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list a heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Other"), []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


class MethodsCommand(SectionedCommand):
    """Adds the methods' options when the command is parsed or its help is shown: finding them costs imports.

    Attributes:
        before: heading of the options in front of which they stand.
    """

    before = OUTPUT

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, and those of the methods."""
        if not any(param.name == "method" for param in self.params):
            from bot_onnx._cli.method_options import method_parameters

            first = next(n for n, param in enumerate(self.params) if getattr(param, "section", "") == self.before)
            taken = {flag for param in self.params for flag in (*param.opts, *param.secondary_opts)}
            self.params[first:first] = map(self.as_taken, method_parameters(taken))
        return super().get_params(ctx)

    def as_taken(self, param: click.Parameter) -> click.Parameter:
        """A method's parameter as the command takes it."""
        return param

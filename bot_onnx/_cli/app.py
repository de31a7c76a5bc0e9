"""The group of all commands: loaded when they are needed, and with one place where every error ends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NoReturn

import click

from bot_onnx import __version__
from bot_onnx._cli import commands as folder
from bot_onnx._cli.failures import guarded, guarded_help
from bot_onnx._cli.last_resort import crash_as_json, explain_crashes
from bot_onnx._cli.signals import end_cleanly

#: What one meets first; all others follow by name.
FIRST = ("inspect", "resize", "fit", "sweep", "report", "verify", "export", "import", "recover", "quantize", "run")
_WIDEST = 100  # characters of a command's line in the overview

#: What people write for a word of ours, among commands, options and choices.
ALIASES = {"out": "output", "quantise": "quantize", "quantise-on": "quantize-on", "requantise": "requantize"}

_AS_JSON = "bot_onnx.as_json"  # in click's context


def commands() -> dict[str, str]:
    """Name -> module of every command: the files of the folder of commands, which are not imported for this."""
    found = {info.name.rstrip("_").replace("_", "-"): info.name for info in iter_modules(folder.__path__)}
    names = [*(name for name in FIRST if name in found), *sorted(found.keys() - set(FIRST))]
    return {name: f"{folder.__name__}.{found[name]}" for name in names}


class App(click.Group):
    """Loads a command on first use, and turns every error into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which one meets them."""
        return list(commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None for a name that is none."""
        module = commands().get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; one that there is not is refused with the nearest names."""
        name = ALIASES.get(args[0], args[0])
        if not name.startswith("-") and name not in commands() and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, commands())
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview; only this imports all commands."""
        told = ((name, self.get_command(ctx, name)) for name in commands())
        with formatter.section("Commands"):
            formatter.write_dl([(name, made.get_short_help_str(_WIDEST)) for name, made in told if made is not None])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see :mod:`bot_onnx._cli.failures` for how it may end."""
        as_json = bool(ctx.meta.get(_AS_JSON))
        if as_json:
            crash_as_json()
        with guarded(as_json):
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether the command is asked for JSON: it must be known also where the rest of the line is wrong."""
        ctx.meta[_AS_JSON] = asks_for_json(args)
        return super().parse_args(ctx, args)


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is among the options of a line."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options


@click.group(
    cls=App,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda word: ALIASES.get(word, word),
    },
    epilog="\b\nExample:\n  bot-onnx resize model.onnx --layers 6 --hidden 384 -o small.onnx\n\n"
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 a check failed, 4 a defect.",
)
@click.version_option(__version__, prog_name="bot-onnx", message="%(prog)s %(version)s")
def cli() -> None:
    """Resize trained neural networks in their ONNX form: smaller or larger, without data."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        argv: arguments after the program's name; None for those of the process.
    """
    end_cleanly()
    _open_standard_streams()
    _hush_libraries()
    explain_crashes()
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown by its code: no reason to fail.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with guarded_help():
        cli.main(args=None if argv is None else list(argv), prog_name="bot-onnx")
    raise AssertionError("click's main ends the process")


def _open_standard_streams() -> None:
    """Give streams that the parent has closed a descriptor, lest the next file that is opened becomes one of them.

    The one for stdout takes nothing: what cannot be shown is an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open for as long as the process


def _hush_libraries() -> None:
    """What libraries warn of and log is for programmers: stderr is for what a command has to say."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())

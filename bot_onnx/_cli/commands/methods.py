"""``bot-onnx methods``: the resampling methods, and the options of each."""

from __future__ import annotations

import click

from bot_onnx._cli.output import show, show_json
from bot_onnx._cli.parameters import json_option


@click.group(
    short_help="List and show the resampling methods, with their options.",
    epilog="\b\nExample:\n  bot-onnx methods show bot",
)
def command() -> None:
    """List and show the resampling methods that 'resize --method' takes, with their options."""


@command.command("list", epilog="\b\nExample:\n  bot-onnx methods list --json")
@json_option
def list_command(as_json: bool) -> None:
    """List the methods: what they do, in which direction, and where they were published."""
    from bot_onnx._report.methods_report import method_json, methods_report
    from bot_onnx._resample import all_methods

    methods = list(all_methods().values())
    if as_json:
        show_json([method_json(method) for method in methods])
    else:
        show(methods_report(methods))


@command.command("show", epilog="\b\nExample:\n  bot-onnx methods show net2net")
@click.argument("name")
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Show the method called NAME: its source, what it promises, and its options with their defaults."""
    from bot_onnx._report.methods_report import method_json, method_report
    from bot_onnx._resample import get_method

    method = get_method(name)
    if as_json:
        show_json(method_json(method))
    else:
        show(method_report(method))

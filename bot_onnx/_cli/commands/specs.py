"""``bot-onnx specs``: the published target specs, and the schema of a spec file."""

from __future__ import annotations

import click

from bot_onnx._cli.output import show, show_json
from bot_onnx._cli.parameters import json_option


@click.group(
    short_help="List and show the published target specs, and the schema of a spec file.",
    epilog="\b\nExample:\n  bot-onnx specs list",
)
def command() -> None:
    """List and show the published target specs, and the schema of a spec file."""


@command.command("list", epilog="\b\nExample:\n  bot-onnx specs list --json")
@json_option
def list_command(as_json: bool) -> None:
    """List the published specs; 'resize --spec NAME' takes their names."""
    from bot_onnx._report.specs_report import specs_report
    from bot_onnx._report.values import plain
    from bot_onnx._target import list_specs

    if as_json:
        show_json(plain(list_specs()))
    else:
        show(specs_report(list_specs()))


@command.command("show", epilog="\b\nExample:\n  bot-onnx specs show bert-s > my-spec.json")
@click.argument("name")
def show_command(name: str) -> None:
    """Print the spec called NAME as JSON: a start for a spec of one's own."""
    from bot_onnx._target import show_spec

    show_json(show_spec(name).model_dump(mode="json", exclude_defaults=True))


@command.command("schema", epilog="\b\nExample:\n  bot-onnx specs schema > spec.schema.json")
def schema_command() -> None:
    """Print the JSON schema of a spec file, for editors and other programs."""
    from bot_onnx._target import spec_schema

    show_json(spec_schema())

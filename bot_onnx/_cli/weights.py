"""What ``export`` and ``import`` share: options that say how the framework calls the weights, and the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bot_onnx._cli.failures import standing
from bot_onnx._cli.output import show, show_json
from bot_onnx._cli.parameters import F, option
from bot_onnx._cli.paths import ReadModel, ReadPath

if TYPE_CHECKING:
    from bot_onnx._checkpoint.export import Transfer

NAMES = "Names of the weights"


def naming_options(command: F) -> F:
    """Add the options that say what a tensor's key is."""
    options: list[Callable[[F], F]] = [
        option(
            NAMES,
            "--names",
            type=ReadPath(dir_okay=False),
            metavar="JSON",
            help='Keys by tensor, for those that nothing else tells: {"onnx::MatMul_7": "proj.weight"}.',
        ),
        option(
            NAMES,
            "--source",
            type=ReadModel(dir_okay=False),
            metavar="ONNX",
            help="The model that MODEL was resized from: its keys are MODEL's.",
        ),
        option(NAMES, "--strip", default="", metavar="BEGINNING", help="Take this from the start of every key."),
    ]
    for decorate in reversed(options):
        command = decorate(command)
    return command


def show_transfer(transfer: Transfer, values: dict[str, Any]) -> None:
    """Print what was done, as the options say."""
    from bot_onnx._report.transfer_report import transfer_json, transfer_report

    with standing(transfer.output, transfer.config):
        if values["as_json"]:
            show_json(transfer_json(transfer))
        elif not values["quiet"]:
            show(transfer_report(transfer))

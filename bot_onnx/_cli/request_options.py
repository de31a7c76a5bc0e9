"""The options of ``resize`` that are fields of a :class:`ResizeRequest` and no more: made from its definition."""

from __future__ import annotations

from dataclasses import Field, fields
from functools import reduce
from typing import Any, Final, get_args

import click

from bot_onnx._cli.parameters import OUTPUT, F, option
from bot_onnx._cli.paths import ReadPath
from bot_onnx._names import AlignKind, DeviceName
from bot_onnx._request import ResizeRequest

#: How click reads what is no switch.
_READ: Final[dict[str, dict[str, Any]]] = {
    "seed": {"type": click.IntRange(min=0), "show_default": True},
    "align": {"type": click.Choice(get_args(AlignKind))},
    "calibration": {"type": ReadPath(path_type=None, dir_okay=False), "metavar": "FILE.npz"},
    "device": {"type": click.Choice(get_args(DeviceName)), "show_default": True},
}
_FIELDS: Final = tuple(entry for entry in fields(ResizeRequest) if "flag" in entry.metadata)

#: Names of the fields that have such an option, and of the options' parameters.
ASKED: Final = tuple(entry.name for entry in _FIELDS)


def request_options(command: F) -> F:
    """Add an option for each of them."""
    return reduce(lambda made, entry: _option(entry)(made), reversed(_FIELDS), command)


def _option(entry: Field[Any]) -> Any:
    flag, told = entry.metadata["flag"], entry.metadata["help"]
    if entry.name in _READ:
        return option(OUTPUT, flag, entry.name, default=entry.default, help=told, **_READ[entry.name])
    return option(OUTPUT, flag, entry.name, flag_value=not entry.default, default=entry.default, help=told)

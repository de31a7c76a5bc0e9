"""The target of a resize: the options that name it, and the spec they make."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.parameters import F, option
from bot_onnx._cli.paths import ReadSpec

if TYPE_CHECKING:
    from bot_onnx._target import TargetSpec

SECTION = "Target"
_ROLES = {
    "hidden": "Width of the residual stream.",
    "heads": "Query heads of attention.",
    "kv_heads": "Key and value heads (grouped queries).",
    "head_dim": "Channels of one head.",
    "intermediate": "Channels between the two matrices of an MLP.",
    "vocab": "Rows of the token embedding.",
    "positions": "Rows of the position table.",
}
#: Keys that say a size; the others only say how sizes are found.
SIZES = ("layers", *_ROLES, "width", "dims")


def _layers(ctx: click.Context, param: click.Parameter, value: str | None) -> int | list[int] | dict[str, Any] | None:
    if value is None:
        return None
    from bot_onnx._target import parse_layers
    from bot_onnx.errors import SpecError

    try:
        return parse_layers(value)
    except SpecError as error:
        raise click.BadParameter(
            f"{error} Give a number, a list such as 2,2,6,2, or encoder=6,decoder=4.", ctx, param
        ) from error


def _pairs(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    if not value:
        return {}
    from bot_onnx._target import parse_assignments
    from bot_onnx.errors import SpecError

    try:
        return parse_assignments(value, param.opts[0])
    except SpecError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _sizes(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, int]:
    pairs = _pairs(ctx, param, value)
    return {name: _size(name, text, ctx, param) for name, text in pairs.items()}


def _size(name: str, text: str, ctx: click.Context, param: click.Parameter) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"the size of '{name}' must be a whole number, not '{text}'.", ctx, param) from None


def _declarations() -> list[Callable[[F], F]]:
    size = click.IntRange(min=1)
    declared = [
        option(
            SECTION,
            "--spec",
            type=ReadSpec(),
            metavar="FILE|NAME",
            help="A spec file, a HuggingFace config.json, or a name of "
            "'bot-onnx specs list'. The options below override it.",
        ),
        option(
            SECTION,
            "--layers",
            callback=_layers,
            metavar="N|CHAIN=N,...",
            help="Layers: of the one chain, or by chain (encoder=6,decoder=4), or a list in graph order; "
            """'{"keep": [0, 2, 5]}' says which stay.""",
        ),
        option(
            SECTION,
            "--layers-by",
            type=click.Choice(["even", "influence"]),
            help="Which layers stay: evenly spread ones, or those of most influence on --calibration samples; "
            "default: as the method has it, and bot by influence where there are samples.",
        ),
    ]
    for role, text in _ROLES.items():
        declared.append(option(SECTION, f"--{role.replace('_', '-')}", type=size, metavar="N", help=text))
    return [
        *declared,
        option(
            SECTION,
            "--keep",
            type=click.Choice(["energy", "magnitude", "activation", "wanda", "taylor"]),
            help="By what heads, neurons and channels are chosen where some go: norms of the maps around them, of all "
            "their weights, their size on --calibration samples, that times what reads them (wanda; the default with "
            "samples), or what outputs lose without them (taylor; gradients).",
        ),
        option(
            SECTION,
            "--refit",
            type=click.Choice(["bias", "readers"]),
            help="What makes up for those that go, on --calibration samples: biases take their mean, or the weights "
            "that read them are fitted to what stays.",
        ),
        option(
            SECTION,
            "--width",
            type=click.FloatRange(min=0, min_open=True),
            metavar="F",
            help="Factor on every free dim that no other option sets.",
        ),
        option(SECTION, "--round-to", type=size, metavar="N", help="Multiple that derived sizes are rounded to."),
        option(
            SECTION,
            "--dim",
            "dims",
            multiple=True,
            callback=_sizes,
            metavar="NAME=SIZE",
            help="Size of a dim by the name or id that inspect prints; may be repeated.",
        ),
        option(
            SECTION,
            "--constant",
            "constants",
            multiple=True,
            callback=_pairs,
            metavar="NODE=FORMULA",
            help="Value of a constant that no known formula explains, such as '/attn/Div=1/sqrt(head_dim*3)'; "
            "may be repeated.",
        ),
    ]


def target_options(function: F) -> F:
    """Give a command every option that names a target."""
    return reduce(lambda made, declared: declared(made), reversed(_declarations()), function)


def target_spec(spec: str | None, flags: Mapping[str, Any]) -> TargetSpec:
    """The spec that ``--spec`` and the flags name together.

    Raises:
        click.UsageError: neither names a size.
        SpecError: the spec cannot be read, or a value is refused.
    """
    given = {key: value for key, value in flags.items() if value is not None and value != {}}
    if spec is None and not given.keys() & set(SIZES):
        raise click.UsageError(
            "nothing says what the model shall become: give --spec FILE|NAME, or sizes such as --layers 6 --hidden "
            "384; 'bot-onnx inspect MODEL' shows what can be resized."
        )
    from bot_onnx._target import TargetSpec

    base = TargetSpec() if spec is None else TargetSpec.load(spec)
    return base.merge(given) if given else base


#: Keys of an object that says which layers stay, not of which chain.
_FORMS = ("keep", "repeat")


def default_output(model: Path, spec: str | None, target: TargetSpec, flags: Mapping[str, Any]) -> Path:
    """``<stem>-<spec name or sizes>.onnx`` beside the source; in this folder, where that lies elsewhere."""
    from bot_onnx._onnxfile.addresses import as_address

    parts = []
    if spec is not None:
        path = Path(spec).resolve()
        parts.append(target.name or (path.parent.name if path.name == "config.json" else path.stem))
    named = {**flags, **({"vocab": len(target.tokens)} if target.tokens and flags.get("vocab") is not None else {})}
    parts += [f"{key.replace('_', '-')}{_text(named[key])}" for key in SIZES[:-1] if named.get(key) is not None]
    parts += [f"{name}{size}" for name, size in (flags.get("dims") or {}).items()]
    label = re.sub(r"[^\w.+-]+", "_", "-".join(filter(None, parts))).strip("._-")
    beside = model if as_address(model) is None else Path(model.name)
    return beside.with_name(f"{model.stem}-{label[:100] or 'resized'}.onnx")


def _text(value: Any) -> str:
    """``6``, ``2-2-6``, ``encoder6-decoder4``, ``-keep0-2-4``: a size in a name of a file."""
    match value:
        case dict():
            return "-".join(f"{'-' if name in _FORMS else ''}{name}{_text(inner)}" for name, inner in value.items())
        case list() | tuple():
            return "-".join(map(_text, value))
        case float():
            return f"{value:g}"
        case _:
            return str(value)

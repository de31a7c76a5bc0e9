"""Command-line options made from the option models of the resampling methods: a new method brings its own."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from bot_onnx._cli.parameters import Sectioned
from bot_onnx._resample import all_methods, get_method, refused_methods

#: Prefix of the parameter names in click, which so never meet those of the command's own options.
PREFIX = "method_option_"
SECTION = "Method"


def method_parameters(taken: Collection[str] = ()) -> list[click.Parameter]:
    """``--method`` and the union of all methods' options; None stands for "not given".

    Args:
        taken: flags of the command itself. A method's option of that name has the methods' names before it:
            ``--ws-layers``.
    """
    titles = "; ".join(f"{method.name}: {method.title}" for method in all_methods().values())
    chosen: list[click.Parameter] = [
        Sectioned(
            ["--method"],
            section=SECTION,
            type=click.Choice([*all_methods(), *refused_methods()]),  # to be refused in words of their own
            default="bot",
            show_default=True,
            help=f"{titles}.",
        )
    ]
    fields: dict[str, dict[str, FieldInfo]] = {}
    for method in all_methods().values():
        for name, field in method.Options.model_fields.items():
            fields.setdefault(name, {})[method.name] = field
    for name, by_method in fields.items():
        clash = {_flag(name), _no(_flag(name))} & set(taken)
        chosen.append(_option(name, by_method, _flag("-".join([*by_method, name])) if clash else _flag(name)))
    return chosen


def chosen_options(method: str, values: Mapping[str, Any], parameters: Iterable[click.Parameter]) -> dict[str, Any]:
    """The options that were given, by field name.

    Args:
        method: name of the method.
        values: all values that click collected, with their prefix; None where an option was not given.
        parameters: of the command, for the flags' names.

    Raises:
        click.UsageError: an option that the method does not have.
    """
    given = {key.removeprefix(PREFIX): value for key, value in values.items() if value is not None}
    known = get_method(method).Options.model_fields
    own = {str(param.name): param.opts[0] for param in parameters}
    flags = {name.removeprefix(PREFIX): flag for name, flag in own.items() if name.startswith(PREFIX)}
    for name in given:
        if name not in known:
            others = [other.name for other in all_methods().values() if name in other.Options.model_fields]
            has = ", ".join(flags[key] for key in known) or "none"
            raise click.UsageError(
                f"'{flags[name]}' is an option of method {' and '.join(map(repr, others))}, not of '{method}', whose "
                f"options are: {has}."
            )
    return given


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _no(flag: str) -> str:
    return f"--no-{flag[2:]}"


def _option(name: str, by_method: Mapping[str, FieldInfo], flag: str) -> Sectioned:
    fields = list(by_method.values())
    described = dict.fromkeys(field.description or "" for field in fields)
    defaults = dict.fromkeys(_default(field) for field in fields if field.default is not None)
    default = f"; default: {', '.join(defaults)}" if defaults else ""
    kind = _kind(fields)
    return Sectioned(
        # Booleans come as a pair, for their default may be either.
        [f"{flag}/{_no(flag)}" if kind is click.BOOL else flag, PREFIX + name],
        section=SECTION,
        type=kind,
        default=None,
        help=f"{' '.join(described)}  [{'/'.join(by_method)}{default}]",
    )


def _default(field: FieldInfo) -> str:
    value = field.default
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _kind(fields: Iterable[FieldInfo]) -> click.ParamType[Any]:
    """The click type of fields that share a name; text where they differ, which the model then parses."""
    kinds = [_plain_type(field.annotation) for field in fields]
    if all(isinstance(kind, tuple) for kind in kinds):
        return click.Choice(list(dict.fromkeys(choice for kind in kinds for choice in kind)))
    named: dict[Any, click.ParamType[Any]] = {bool: click.BOOL, int: click.INT, float: click.FLOAT}
    return named.get(kinds[0], click.STRING) if len(set(kinds)) == 1 else click.STRING


def _plain_type(annotation: Any) -> Any:
    """The type without ``None`` and ``Annotated``; the choices, as a tuple of texts, of a ``Literal``."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [entry for entry in get_args(annotation) if entry is not type(None)]
        return _plain_type(rest[0]) if len(rest) == 1 else str
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return annotation

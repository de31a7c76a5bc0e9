"""The tables of ``methods``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from rich.console import Group
from rich.table import Table

from bot_onnx._names import MethodName
from bot_onnx._report.layout import cell, facts, table
from bot_onnx._resample.method import Method


def methods_report(methods: Iterable[Method[Any]]) -> Table:
    """One row a method."""
    made = table("Methods", ["name!", "direction!", "what it does", "published"])
    for method in methods:
        made.add_row(method.name, method.direction, cell(method.title), cell(method.reference))
    return made


def method_report(method: Method[Any]) -> Group:
    """Everything about one."""
    told = method_json(method)
    header = facts(
        {
            "method": method.name,
            "what it does": method.title,
            "direction": method.direction,
            "published": method.reference,
            "promises": ", ".join(method.promises),
            "page": told["page"],
        }
    )
    made = table("Options", ["option!", "default", "values", "what it does"])
    for option in told["options"]:
        made.add_row(option["flag"], cell(option["default"]), cell(option["type"]), cell(option["help"]))
    return Group(header, "", made if told["options"] else "It has no options.")


def method_json(method: Method[Any]) -> dict[str, Any]:
    """A method as a JSON value; ``page`` is a place in the project's documentation, None for one of another package."""
    schema = method.Options.model_json_schema().get("properties", {})
    options = [
        {
            "name": name,
            "flag": f"--{name.replace('_', '-')}",
            "default": schema[name].get("default"),
            "type": _values(schema[name]),
            "help": field.description or "",
        }
        for name, field in method.Options.model_fields.items()
    ]
    return {
        "name": method.name,
        "title": method.title,
        "direction": method.direction,
        "reference": method.reference,
        "promises": list(method.promises),
        "options": options,
        "page": f"docs/methods/{method.name}.md" if method.name in get_args(MethodName) else None,
    }


def _values(schema: dict[str, Any]) -> str:
    """The words that an option takes, or the kind of its value."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    words = [str(word) for kind in kinds for word in kind.get("enum", [kind["const"]] if "const" in kind else [])]
    return ", ".join(words) or " or ".join(str(kind.get("type", "any")) for kind in kinds)

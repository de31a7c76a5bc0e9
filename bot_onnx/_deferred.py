"""Names of a module that are imported from their homes when first asked for, so that a command starts soon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def deferred(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """What a module has as its ``__getattr__`` (PEP 562).

    Args:
        module: its name.
        homes: names, with spaces between them, by the module that has them.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    return load

"""Loads onnx-ir without sympy, which it imports for arithmetic on symbolic sizes that is never done here.

sympy takes half as long to import as all else together. While onnx-ir is imported, placeholders stand for sympy and for
onnx-ir's module that is made of it; they import the real one when something of it is first asked for. Nobody else sees
them: they leave ``sys.modules`` at once, and where onnx-ir is another than they were made for, it is imported plainly.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_LATE: Final = ("sympy", "onnx_ir._symbolic_shapes")


class _Later(ModuleType):
    """Stands for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        """Import the module, and give what it has."""
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        placeholder = sys.modules.get(self.__name__)
        if placeholder is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _load() -> None:
    if any(name in sys.modules for name in ("onnx_ir", *_LATE)):
        return
    placeholders = {name: _Later(name) for name in _LATE}
    sys.modules.update(placeholders)
    try:
        import_module("onnx_ir")
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "onnx_ir"]:
            del sys.modules[name]
    finally:
        for name, placeholder in placeholders.items():
            if sys.modules.get(name) is placeholder:
                del sys.modules[name]


_load()

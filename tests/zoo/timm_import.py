"""Import timm and transformers where torchvision's compiled operators do not fit the installed PyTorch."""

from __future__ import annotations

import importlib
from contextlib import suppress

from bot_onnx.recover.extras import import_torchvision


def mend_torchvision() -> None:
    """Make ``import torchvision`` work if it is installed: timm imports it, and so does transformers where it is.

    No network of the zoo calls the operators that may be missing.
    """
    with suppress(ModuleNotFoundError):
        import_torchvision()


def import_timm() -> None:
    """Import timm, mending torchvision first if need be.

    Raises:
        ModuleNotFoundError: timm or torchvision is not installed.
    """
    mend_torchvision()
    importlib.import_module("timm")

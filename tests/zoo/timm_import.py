"""Import timm where torchvision's compiled operators do not fit the installed PyTorch."""

from __future__ import annotations

import importlib

from bot_onnx._recover.extras import import_torchvision


def import_timm() -> None:
    """Import timm, and torchvision before it; no network of the zoo calls the operators that it may lack.

    Raises:
        ModuleNotFoundError: timm or torchvision is not installed.
    """
    import_torchvision()
    importlib.import_module("timm")

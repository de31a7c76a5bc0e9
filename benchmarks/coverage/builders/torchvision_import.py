"""Make torchvision importable where its compiled operators do not fit the installed PyTorch."""

from __future__ import annotations

from contextlib import suppress

from bot_onnx.recover import extras


def import_torchvision() -> None:
    """Import torchvision if it is installed; no network of the benchmark calls the operators that may be missing."""
    with suppress(ModuleNotFoundError):
        extras.import_torchvision()

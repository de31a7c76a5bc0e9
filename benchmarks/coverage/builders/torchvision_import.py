"""Make torchvision importable where its compiled operators do not fit the installed PyTorch."""

from __future__ import annotations

import importlib
import sys

import torch

#: Operators for which torchvision's Python side registers kernels, whether or not its library was loaded.
_DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # declarations vanish with their Library


def import_torchvision() -> None:
    """Import torchvision; declare the operators that its library lacks, if that is what stops it.

    No network of the benchmark calls them. Nothing happens where torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for declaration in _DECLARATIONS:
            library.define(declaration)
        _kept.append(library)
        importlib.import_module("torchvision")

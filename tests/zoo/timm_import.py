"""Import timm and transformers where torchvision's compiled operators do not fit the installed PyTorch."""

from __future__ import annotations

import importlib
import sys

import torch

# What torchvision registers fake kernels for whether or not its operators were loaded.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a Library takes its definitions back when it is collected


def mend_torchvision() -> None:
    """Make ``import torchvision`` work where only its compiled operators are missing.

    timm imports torchvision, and so does transformers where it is installed. Built for another PyTorch (a CUDA build
    beside a CPU one, say), torchvision skips its shared library without a word and then fails with ``operator
    torchvision::nms does not exist``, because its Python side attaches a fake kernel to an operator that the library
    would have declared. No network of the zoo calls these operators, so their schemas are enough. Nothing is touched
    where torchvision imports by itself, or is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half-imported
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _libraries.append(library)
        importlib.import_module("torchvision")


def import_timm() -> None:
    """Import timm, mending torchvision first if need be.

    Raises:
        ModuleNotFoundError: timm or torchvision is not installed.
    """
    mend_torchvision()
    importlib.import_module("timm")

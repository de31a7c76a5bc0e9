"""The one door to PyTorch and the converter: where they are missing, the message says what to install."""

from __future__ import annotations

from typing import Any

from bot_onnx.errors import MissingRuntimeError

INSTALL = "pip install 'bot-onnx[cpu,recover]'"

_DETECTION_OPS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # a library takes its definitions back when it is collected


def torch() -> Any:
    """Return the torch module.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        import torch as module
    except ImportError as error:
        raise MissingRuntimeError(
            f"PyTorch is needed to train the student, and is not installed. Install it with: {INSTALL}"
        ) from error
    return module


def converter() -> Any:
    """Return onnx2pytorch's ``ConvertModel``.

    Raises:
        MissingRuntimeError: it is not installed, or torchvision, which it imports, was built for another PyTorch.
    """
    torch()
    try:
        _declare_detection_ops()
        from onnx2pytorch import ConvertModel
    except ImportError as error:
        raise MissingRuntimeError(
            f"onnx2pytorch is needed to train ONNX files, and is not installed. Install it with: {INSTALL}"
        ) from error
    return ConvertModel


def _declare_detection_ops() -> None:
    """Let torchvision be imported where it was built for another build of PyTorch (CUDA beside CPU, say).

    Its Python side then looks for two operators that its compiled side did not bring. The converter imports it for box
    suppression alone; a network that calls these operators fails when it is compared with onnxruntime.
    """
    import importlib
    import sys

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise MissingRuntimeError(
                f"torchvision does not fit the installed PyTorch ({error}). Install both anew: {INSTALL}"
            ) from error
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        library = torch().library.Library("torchvision", "DEF")
        for schema in _DETECTION_OPS:
            library.define(schema)
        _kept.append(library)
        importlib.import_module("torchvision")


def tokenizers() -> Any:
    """Return the tokenizers module.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        import tokenizers as module
    except ImportError as error:
        raise MissingRuntimeError(
            f"tokenizers is needed to read text, and is not installed. Install it with: {INSTALL}"
        ) from error
    return module


def pillow() -> Any:
    """Return ``PIL.Image``.

    Raises:
        MissingRuntimeError: Pillow is not installed.
    """
    try:
        from PIL import Image as module
    except ImportError as error:
        raise MissingRuntimeError(
            f"Pillow is needed to read images, and is not installed. Install it with: {INSTALL}"
        ) from error
    return module

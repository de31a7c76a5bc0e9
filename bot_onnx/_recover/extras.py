"""The one door to PyTorch and the converter: where they are missing, the message says what to install."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from bot_onnx._installing import install, needing
from bot_onnx.errors import MissingRuntimeError

_EXTRAS = "cpu", "recover"
_DETECTION_OPS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # a library takes its definitions back when it is collected


def torch(need: str = "to train the student") -> Any:
    """Return the torch module.

    Args:
        need: what it is needed for.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    return _imported("torch", f"PyTorch is needed {need}")


def converter(need: str = "to train ONNX files") -> Any:
    """Return onnx2pytorch's ``ConvertModel``.

    Args:
        need: what it is needed for.

    Raises:
        MissingRuntimeError: it is not installed, or torchvision, which it imports, was built for another PyTorch.
    """
    torch(need)
    need = f"onnx2pytorch is needed {need}"
    with needing(need, *_EXTRAS):
        import_torchvision()
    return _imported("onnx2pytorch", need).ConvertModel


def import_torchvision() -> None:
    """Import torchvision if it is installed, also where it was built for another PyTorch (CUDA beside CPU, say).

    Its Python side then looks for two operators that its compiled side did not bring; they are declared for it. Nothing
    here computes with them: a network that calls these operators fails when it is compared with onnxruntime.

    Raises:
        MissingRuntimeError: it does not fit the installed PyTorch in another way.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise MissingRuntimeError(
                f"torchvision does not fit the installed PyTorch ({error}). Install both anew: {install(*_EXTRAS)}"
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
    return _imported("tokenizers", "tokenizers is needed to read text")


def pyarrow() -> Any:
    """Return the pyarrow module, with what reads Arrow's own files.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    with needing("pyarrow is needed to read Parquet and Arrow", "data"):
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module("pyarrow")


def summary_writer() -> Any:
    """Return PyTorch's ``SummaryWriter``.

    Raises:
        MissingRuntimeError: TensorBoard is not installed.
    """
    torch()
    with needing("TensorBoard is needed to write event files", "tensorboard"):
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter


def pillow() -> Any:
    """Return ``PIL.Image``.

    Raises:
        MissingRuntimeError: Pillow is not installed.
    """
    return _imported("PIL.Image", "Pillow is needed to read images")


def _imported(name: str, need: str) -> Any:
    with needing(need, *_EXTRAS):
        return importlib.import_module(name)

"""Where a training computes, and in what numbers: a device of PyTorch's, and the precision of its products.

Weights, moments of the optimiser and the loss are float32 whatever the precision; ``bf16`` and ``fp16`` are those of
PyTorch's autocast (Micikevicius et al. 2018, "Mixed Precision Training"): products in half the bits, and what needs
more of them in float32. ``fp16`` scales the loss, so that small gradients are not lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from bot_onnx._recover.extras import torch
from bot_onnx._recover.types import Array, Settings
from bot_onnx.errors import RecoverError

Kind = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"bf16": "bfloat16", "fp16": "float16"}
_SCALE, _GROWTH = 1024.0, 500  # of losses in fp16, and steps after which it is doubled
_CALLED = {"fp32": "float32", "bf16": "bfloat16 where that is enough", "fp16": "float16 where that is enough"}


@dataclass(frozen=True, slots=True)
class Place:
    """A device and a precision.

    Attributes:
        kind: of the device.
        precision: of products.
        device: the name that PyTorch knows the device by.
    """

    kind: Kind = "cpu"
    precision: Precision = "fp32"
    device: str = "cpu"

    @property
    def on_cpu(self) -> bool:
        """Whether tensors stay where they are read."""
        return self.device == "cpu"

    def tensors(self, values: Mapping[str, Array]) -> dict[str, Any]:
        """Arrays as float32 torch tensors on the device."""
        library = torch()
        return {name: library.from_numpy(array.astype("float32", copy=False)).to(self.device)
                for name, array in values.items()}  # fmt: skip

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside the block products are computed in the precision."""
        if self.precision == "fp32":
            return nullcontext()
        found: AbstractContextManager[Any] = torch().autocast(self.kind, getattr(torch(), _TYPES[self.precision]))
        return found

    def scaler(self) -> Any:
        """What scales the loss in ``fp16`` (a ``torch.amp.GradScaler``); in others it does nothing.

        A step whose gradients are beyond float16 is left out, and the scale halved; losses here are about 1 at most, so
        that it starts lower than PyTorch's and few steps are.
        """
        enabled = self.precision == "fp16"
        return torch().amp.GradScaler(self.kind, init_scale=_SCALE, growth_interval=_GROWTH, enabled=enabled)

    def told(self) -> str:
        """In words."""
        name = "the CPU" if self.kind == "cpu" else f"{torch().cuda.get_device_name(self.device)} ({self.device})"
        return f"{name}, in {_CALLED[self.precision]}"


def find_place(settings: Settings) -> Place:
    """The device and the precision that a training gets.

    Args:
        settings: of the training. ``auto``: CUDA where PyTorch finds a device; there bfloat16 where the device has it,
            else float16; float32 on the CPU.

    Raises:
        RecoverError: CUDA is asked for, and PyTorch finds no device; or ``torchrun`` started several processes, which
            would all train the whole and write one output.
    """
    if os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1"):
        raise RecoverError(
            "several processes were started for one training (torchrun, WORLD_SIZE), and recover trains in one: start "
            "one process, or unset WORLD_SIZE where that is about something else"
        )
    for name, given, known in (("device", settings.device, DEVICES), ("precision", settings.precision, PRECISIONS)):
        if given not in known:
            raise RecoverError(f"unknown {name} '{given}'; choose one of {', '.join(known)}")
    library = torch()
    found = library.cuda.is_available() if settings.device != "cpu" else False
    if settings.device == "cuda" and not found:
        built = library.version.cuda
        why = f"finds no CUDA device (it is built for CUDA {built})" if built else "is built without CUDA"
        raise RecoverError(
            f"device 'cuda' cannot be used: PyTorch {library.__version__} {why}; install a PyTorch for CUDA on a "
            "machine with a device, or use --device cpu"
        )
    kind: Kind = "cuda" if found else "cpu"
    precision = settings.precision
    if precision == "auto":
        precision = "fp32" if kind == "cpu" else "bf16" if library.cuda.is_bf16_supported() else "fp16"
    return Place(kind, precision, "cuda:0" if found else "cpu")


DEVICES, PRECISIONS = ("auto", "cpu", "cuda"), ("auto", "fp32", "bf16", "fp16")


def on_cpu(value: Any) -> Any:
    """A state with its tensors in memory, those inside dicts and lists too."""
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_cpu(entry) for entry in value)
    return value.detach().cpu() if isinstance(value, torch().Tensor) else value


def widened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of which those in half the bits are float32."""
    halves = torch().float16, torch().bfloat16
    return {name: value.float() if value.dtype in halves else value for name, value in values.items()}

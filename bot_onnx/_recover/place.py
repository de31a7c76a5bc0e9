"""Where a training computes, and in what numbers: a device of PyTorch's, and the precision of its products.

Weights, moments of the optimiser and the loss are float32 whatever the precision; ``bf16`` and ``fp16`` are those of
PyTorch's autocast (Micikevicius et al. 2018, "Mixed Precision Training"): products in half the bits, and what needs
more of them in float32. ``fp16`` scales the loss, so that small gradients are not lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from bot_onnx._recover.extras import torch
from bot_onnx._recover.ranks import ALONE, Ranks
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
        number: of the device, where there are several.
    """

    kind: Kind = "cpu"
    precision: Precision = "fp32"
    device: str = "cpu"
    number: int = 0

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


def find_place(settings: Settings, ranks: Ranks = ALONE) -> Place:
    """The device and the precision that a training gets.

    Args:
        settings: of the training. ``auto``: CUDA where PyTorch finds a device; there bfloat16 where the device has it,
            else float16; float32 on the CPU.
        ranks: this process; each has a device of its own.

    Raises:
        RecoverError: CUDA is asked for, and PyTorch finds no device, or none for this process.
    """
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
    if found and ranks.local >= library.cuda.device_count():
        raise RecoverError(
            f"process {ranks.rank} has no device of its own: PyTorch finds {library.cuda.device_count()} here; start "
            "no more processes a machine than it has devices, or take --device cpu"
        )
    kind: Kind = "cuda" if found else "cpu"
    precision = settings.precision
    if precision == "auto":
        precision = "fp32" if kind == "cpu" else "bf16" if library.cuda.is_bf16_supported() else "fp16"
    return Place(kind, precision, f"cuda:{ranks.local}" if found else "cpu", ranks.local if found else 0)


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

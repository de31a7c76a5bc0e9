"""Where the arithmetic runs: NumPy on the CPU, CuPy on a CUDA device.

NumPy 2 is an array-API namespace by itself; CuPy is wrapped by array-api-compat, which comes with the extra ``gpu``.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from bot_onnx._resample.arrays import Namespace
from bot_onnx.errors import ResampleError

DEVICES = ("auto", "cpu", "cuda")


def namespace(device: str) -> Namespace:
    """The array namespace of a device.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where CuPy is installed and finds a device, else the CPU.

    Raises:
        ResampleError: an unknown device, or ``cuda`` where there is none.
    """
    if device not in DEVICES:
        raise ResampleError(f"unknown device '{device}'; choose one of {', '.join(DEVICES)}")
    if device == "cpu":
        return np
    try:
        cupy: Any = importlib.import_module("cupy")
        found = int(cupy.cuda.runtime.getDeviceCount()) > 0
    except Exception as error:  # CuPy without a driver raises errors of its own kinds
        found, reason = False, str(error).splitlines()[0] if str(error) else type(error).__name__
    else:
        reason = "CuPy finds no device"
    if found:
        return importlib.import_module("array_api_compat.cupy")
    if device == "cuda":
        raise ResampleError(
            f"device 'cuda' cannot be used: {reason}; install the extra 'gpu' on a machine with a CUDA device, "
            "or use --device cpu"
        )
    return np

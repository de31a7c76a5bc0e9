"""CuPy as the engine of the kernel in ``separable.cu``. CuPy itself is imported where one of its arrays comes along."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array
from bot_onnx._resample.fused import KERNEL, SOURCE, Build, Engine
from bot_onnx._resample.tiles import THREADS


def engine_of(x: Array) -> Engine | None:
    """What runs the kernel where ``x`` lies: None for all arrays but CuPy's."""
    return _cupy() if is_cupy(x) else None


def is_cupy(x: Array) -> bool:
    """Whether ``x`` is an array of CuPy's."""
    return type(x).__module__.partition(".")[0] == "cupy"


class CuPyEngine:
    """The present device of CuPy, its present stream."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def place(self, array: NDArray[np.generic]) -> Array:
        """The array on the device."""
        return self._cupy.asarray(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array on the device, in C order."""
        return self._cupy.empty(shape, dtype=dtype)

    def address(self, array: Array) -> int:
        """Where its first element lies."""
        return int(array.data.ptr)

    def launch(self, build: Build, grid: tuple[int, int, int], shared: int, arguments: Sequence[object]) -> None:
        """Start the kernel; it is compiled when first asked for, and CuPy keeps what it compiled on disk."""
        _compiled(self._cupy, build)(grid, (THREADS, 1, 1), tuple(arguments), shared_mem=shared)


@lru_cache(maxsize=1)
def _cupy() -> CuPyEngine:
    return CuPyEngine(importlib.import_module("cupy"))


@lru_cache(maxsize=256)
def _compiled(cupy: Any, build: Build) -> Any:
    options = ("--std=c++17", *build.definitions())
    return cupy.RawModule(code=SOURCE, backend="nvrtc", options=options).get_function(KERNEL)

"""The kernel of ``separable.cu`` compiled for this machine's processor, behind a thin shim of CUDA's names.

What lies between two barriers is a loop over the threads of a block, and blocks run one after the other: the text, the
tables and every index are those of the device.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._resample.fused import SOURCE, Build

SHIM = """
#include <stdint.h>
#include <string.h>
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__
#define __launch_bounds__(n)
#define __syncthreads()
struct Three { unsigned x, y, z; };
static Three threadIdx, blockIdx;
// Threads from the last to the first in every other block: none may need what another one does in the same phase.
#define PHASE for (unsigned turn = 0; threadIdx.x = (blockIdx.x + blockIdx.y) % 2 ? THREADS - 1 - turn : turn, \\
                   turn < THREADS; ++turn)
extern "C" { double tile_memory[8192]; }
int row_taps, col_taps, tile_rows;
static inline float half_of(unsigned short bits)
{
    uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    float value;
    if (rest >= 0x7c00u) { uint32_t word = 0x7f800000u | (rest & 0x3ffu) << 13; memcpy(&value, &word, 4); }
    else if (rest < 0x400u) value = rest * 5.9604644775390625e-8f;
    else { uint32_t word = (rest + (112u << 10)) << 13; memcpy(&value, &word, 4); }
    return sign ? -value : value;
}
"""

DRIVER = """
extern "C" int run(void** pointers, const int* sizes, const long long* strides, const unsigned* grid, int shared,
                   int rows, int cols, int tile)
{
    row_taps = rows, col_taps = cols, tile_rows = tile;
    if (shared > (int)sizeof(tile_memory)) return 1;
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) {
        memset(tile_memory, 255, shared);  // NaN: what was never written shows
        separable((const SOURCE*)pointers[0], (WORK*)pointers[1], (const int*)pointers[2], (const int*)pointers[3],
                  (const WORK*)pointers[4], (const int*)pointers[5], (const int*)pointers[6], (const int*)pointers[7],
                  (const int*)pointers[8], (const WORK*)pointers[9], sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
                  sizes[5], sizes[6], strides[0], strides[1], strides[2], strides[3], strides[4], strides[5]);
    }
    return 0;
}
"""


def compiler() -> list[str] | None:
    """A C++ compiler: the system's, or the one of the package ``ziglang``."""
    for name in ("g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    bare = ["-nostdlib++", "-fno-sanitize=undefined"]  # it would compile its own library first
    return [sys.executable, "-m", "ziglang", "c++", *bare] if importlib.util.find_spec("ziglang") else None


@functools.lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kernel-")


def _definitions(build: Build, *, exact: bool) -> tuple[str, ...]:
    """What the kernel is compiled with: all of it, or numbers of taps and rows that are set before every run."""
    set_later = "" if exact else "ROW_TAPS COL_TAPS TILE_ROWS"
    kept = [text for text in build.definitions() if text[2:].split("=")[0] not in set_later.split()]
    return (*kept, *(f"-D{name}={name.lower()}" for name in set_later.split()))


@functools.cache
def _library(definitions: tuple[str, ...]) -> Any:
    found = compiler()
    assert found is not None
    stem = Path(_folder().name, f"kernel{len(list(Path(_folder().name).iterdir()))}")
    text, library = stem.with_suffix(".cpp"), stem.with_suffix(".so")
    text.write_text(SHIM + re.sub("#pragma.*", "", SOURCE) + DRIVER)  # unrolling is the device's
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-w", *definitions]
    subprocess.run([*found, *flags, str(text), "-o", str(library)], check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(library))


class HostEngine:
    """An engine whose arrays are NumPy's.

    ``exact``: the number of taps is given when the kernel is compiled, as on the device. It takes half a second each.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.launched: list[Build] = []
        self.exact = exact

    def place(self, array: Any) -> Any:
        return np.ascontiguousarray(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return np.full(shape, np.nan, dtype=dtype)

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def launch(self, build: Build, grid: tuple[int, int, int], shared: int, arguments: Sequence[Any]) -> None:
        self.launched.append(build)
        arrays, numbers = arguments[:10], arguments[10:]
        assert all(type(n) is np.int32 for n in numbers[:7]) and all(type(n) is np.int64 for n in numbers[7:])
        assert len(numbers) == 13 and max(grid[1:]) < 65536 and shared <= 48 << 10
        pointers = (ctypes.c_void_p * 10)(*(array.ctypes.data for array in arrays))
        sizes, strides = (ctypes.c_int * 7)(*numbers[:7]), (ctypes.c_longlong * 6)(*numbers[7:])
        library = _library(_definitions(build, exact=self.exact))
        given = (shared, build.row_taps, build.col_taps, build.tile_rows)
        assert library.run(pointers, sizes, strides, (ctypes.c_uint * 3)(*grid), *given) == 0

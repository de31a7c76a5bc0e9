"""Keyed random streams, and draws from them in blocks: the same numbers for any number of threads.

A block has a generator of its own, seeded by the key of its draw and its number (NumPy's spawn keys), so threads fill
blocks in any order. SFC64 gives its bits in two thirds of the time of Philox, whose counter would do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from bot_onnx._resample.arrays import Floats
from bot_onnx._resample.parallel import share

#: Random numbers that one thread draws at a time: a millisecond's work.
_BLOCK = 1 << 18

Fill = Callable[[np.random.Generator, Floats], object]


def stream(seed: int, stack: str, layer: int) -> np.random.Generator:
    """Random generator of one target layer: a function of its three keys alone, so order of execution is free."""
    key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, layer, *stack.encode()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, deviation: float = 1.0) -> Floats:
    """Draws of Normal(0, deviation²), of ``shape``, in float32 or float64."""

    def fill(source: np.random.Generator, out: Floats) -> None:
        source.standard_normal(out=out, dtype=out.dtype.type)
        if deviation != 1.0:
            out *= deviation

    return _drawn(rng, shape, dtype, fill)


def uniform(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Floats:
    """Uniform draws in [0, 1) of ``shape`` in float32 or float64."""
    return _drawn(rng, shape, dtype, lambda source, out: source.random(out=out, dtype=out.dtype.type))


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, fill: Fill) -> Floats:
    drawn: Floats = np.empty(prod(shape), dtype=dtype)
    key = [int(word) for word in rng.integers(0, 1 << 32, size=4, dtype=np.uint32)]

    def work(block: int) -> None:
        source = np.random.SFC64(np.random.SeedSequence(key, spawn_key=(block,)))
        fill(np.random.Generator(source), drawn[block * _BLOCK : (block + 1) * _BLOCK])

    share(work, list(range(-(-drawn.size // _BLOCK))))
    return drawn.reshape(shape)

"""Keyed random streams, and draws from them in blocks: the same numbers for any number of threads.

A block has a generator of its own, seeded by the key of its draw and its number (NumPy's spawn keys), so threads fill
blocks in any order. SFC64 gives its bits in two thirds of the time of Philox, whose counter would do the same.

Normal numbers are drawn by the composition method of Marsaglia, MacLaren & Bray (1964, "A fast procedure for generating
normal random variables", Comm. ACM 7): the area under the density is cut into upright bars of equal width that lie
wholly under it, and a rest. 16 bits choose a bar from a table that holds each as often as it is likely, 16 more (48
in float64) the place in it: whole arrays at a time, without a branch, in half the time of a ziggurat. One number in a
hundred is of the rest, and drawn by rejection under what is left of the density over each bar and beyond the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Floats
from bot_onnx._resample.parallel import share

#: Random numbers that one thread draws at a time, a millisecond's work; and those that stay in cache between steps.
_BLOCK, _PART = 1 << 18, 1 << 16
#: Width of a bar, and bars on each side, up to ±4. Narrower ones would leave more to the rounding of their entries.
_WIDTH, _BARS = 2.0**-6, 256
_ENTRIES = 1 << 16
_ALL_BITS = (1 << 64) - 1

Fill = Callable[[np.random.Generator, Floats], None]


def stream(seed: int, stack: str, layer: int) -> np.random.Generator:
    """Random generator of one target layer: a function of its three keys alone, so order of execution is free."""
    key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, layer, *stack.encode()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, deviation: float = 1.0) -> Floats:
    """Draws of Normal(0, deviation²), of ``shape``, in float32 or float64."""
    return _drawn(rng, shape, dtype, lambda source, out: _fill_normal(source, out, deviation))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Floats:
    """Uniform draws in [0, 1) of ``shape`` in float32 or float64."""
    return _drawn(rng, shape, dtype, _fill_uniform)


def _fill_uniform(source: np.random.Generator, out: Floats) -> None:
    source.random(out=out, dtype=out.dtype.type)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, fill: Fill) -> Floats:
    drawn: Floats = np.empty(prod(shape), dtype=dtype)
    key = [int(word) for word in rng.integers(0, 1 << 32, size=4, dtype=np.uint32)]

    def work(block: int) -> None:
        source = np.random.SFC64(np.random.SeedSequence(key, spawn_key=(block,)))
        fill(np.random.Generator(source), drawn[block * _BLOCK : (block + 1) * _BLOCK])

    share(work, list(range(-(-drawn.size // _BLOCK))))
    return drawn.reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """Under the normal density, by bar from the left.

    Attributes:
        bars: float32, for every entry that has a bar its number, -256 to 255, times 2¹⁶.
        low: float64 ``[bars]``, height up to which the table's entries fill it.
        left: float64 ``[bars]``, how much higher the density gets above that.
        stays, other: of the pieces to draw the rest under, the bars and two tails: Walker's aliases.
    """

    bars: NDArray[np.float32]
    low: NDArray[np.float64]
    left: NDArray[np.float64]
    stays: NDArray[np.float64]
    other: NDArray[np.intp]


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    heights = _density(np.arange(-_BARS, _BARS + 1) * _WIDTH)
    often = np.floor(_ENTRIES * _WIDTH * np.minimum(heights[:-1], heights[1:])).astype(np.int64)
    low = often / (_ENTRIES * _WIDTH)
    left = np.maximum(heights[:-1], heights[1:]) - low
    tail = heights[-1] / (
        _BARS * _WIDTH
    )  # under the exponential through its beginning: Marsaglia 1964, Technometrics 6
    numbers = np.arange(-_BARS, _BARS, dtype=np.float32) * _ENTRIES
    return _Tables(np.repeat(numbers, often), low, left, *_aliases(np.array([*(left * _WIDTH), tail, tail])))


def _aliases(areas: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """How likely each of equally likely pieces stays what it is, and what it else becomes (Walker 1977, ACM TOMS 3)."""
    stays, other = areas * (len(areas) / areas.sum()), np.arange(len(areas))
    scarce, ample = (list(np.flatnonzero(found)) for found in (stays < 1.0, stays >= 1.0))
    while scarce and ample:
        taker, giver = scarce.pop(), ample[-1]
        other[taker] = giver
        stays[giver] -= 1.0 - stays[taker]
        if stays[giver] < 1.0:
            scarce.append(ample.pop())
    return stays, other


def _density(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    return density


def _fill_normal(source: np.random.Generator, out: Floats, deviation: float) -> None:
    """Fill a block; the order in which ``source`` is asked is part of what is drawn."""
    tables, single = _tables(), out.dtype == np.float32
    words = -(-out.size // 2) if single else out.size
    bits = source.integers(0, _ALL_BITS, words, dtype=np.uint64, endpoint=True)
    halves = bits.astype("<u8", copy=False).view("<u2")
    missing: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
    for start in range(0, out.size, _PART):
        part = out[start : start + _PART]
        here = slice(start, start + part.size)
        if single:
            entries, place = halves[here], halves[out.size :][here].astype(np.float32)
            tables.bars.take(entries, out=part, mode="clip")
        else:
            entries, place = halves[::4][here], (bits[here] >> np.uint64(16)) * 2.0**-32
            part[:] = tables.bars.take(entries, mode="clip")
        part += place  # of 24 bits in all in float32: exact
        part *= deviation * _WIDTH / _ENTRIES
        missing.append((entries >= tables.bars.size).nonzero()[0] + start)
    rest = np.concatenate(missing)
    out[rest] = _of_the_rest(source, rest.size, tables) * deviation


def _of_the_rest(source: np.random.Generator, count: int, tables: _Tables) -> NDArray[np.float64]:
    """``count`` numbers of the density that the table leaves."""
    pieces, end = len(tables.stays), _BARS * _WIDTH
    accepted = np.empty(0)
    while accepted.size < count:
        where, height, choice = source.random((3, int(1.6 * (count - accepted.size)) + 8))
        choice *= pieces
        piece = choice.astype(np.intp)
        choice -= piece
        piece = np.where(choice < tables.stays[piece], piece, tables.other[piece])
        bar = np.minimum(piece, 2 * _BARS - 1)
        x = (bar - _BARS + where) * _WIDTH
        right = height * tables.left[bar] < _density(x) - tables.low[bar]
        tails = np.flatnonzero(piece >= 2 * _BARS)
        beyond = -np.log1p(-where[tails]) / end
        x[tails] = np.where(piece[tails] == 2 * _BARS, -1.0, 1.0) * (end + beyond)
        right[tails] = height[tails] < np.exp(-0.5 * beyond * beyond)
        accepted = np.concatenate([accepted, x[right]])
    return accepted[:count]

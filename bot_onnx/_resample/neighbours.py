"""Haar over a power of two: sums of neighbours when shrinking, copies when growing. No boundary mode reaches in.

Written for any array namespace, and once more for NumPy in tiles that stay in cache between the sum and its gain, or
between the gain and the copies. Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod, sqrt

import numpy as np

from bot_onnx._resample.arrays import Array, Floats, Namespace
from bot_onnx._resample.filters import Form
from bot_onnx._resample.parallel import share

#: Elements of a tile: 256 KiB in float32, so that what one call wrote the next one finds in the second-level cache.
TILE = 1 << 16

Tile = tuple[slice, slice, slice]


def _summing_gain(block: int, form: Form) -> float:
    """1/block (R), 1/√block (√rho·R) or 1 (rho·R~)."""
    return {"unit": 1.0 / block, "sqrt": 1.0 / sqrt(block), "dual": 1.0}[form]


def _copying_gain(block: int, form: Form) -> float:
    """1 (R), 1/√block (√rho·R) or 1/block (rho·R~)."""
    return {"unit": 1.0, "sqrt": 1.0 / sqrt(block), "dual": 1.0 / block}[form]


def neighbours_gain(source: int, target: int, form: Form) -> float:
    """Gain of every neighbour that is summed, or copied."""
    return _summing_gain(source // target, form) if target < source else _copying_gain(target // source, form)


def sum_neighbours(x: Array, block: int, form: Form, xp: Namespace) -> Array:
    """Sum of every ``block`` neighbours of ``[pre, n, post]`` times the form's gain, in any namespace."""
    gain = _summing_gain(block, form)
    total = x[:, 0::block, :] + x[:, 1::block, :]
    for start in range(2, block):
        total += x[:, start::block, :]
    if gain != 1.0:
        total *= gain
    return total


def copy_neighbours(x: Array, block: int, form: Form, xp: Namespace) -> Array:
    """``block`` copies of every index of ``[pre, n, post]`` times the form's gain, in any namespace."""
    pre, n, post = x.shape
    gain = _copying_gain(block, form)
    grown = xp.empty((pre, n, block, post), dtype=x.dtype)
    value = x if gain == 1.0 else x * gain
    for copy in range(block):
        grown[:, :, copy, :] = value
    return xp.reshape(grown, (pre, n * block, post))


def sum_into(x: Floats, block: int, form: Form, out: Floats) -> None:
    """:func:`sum_neighbours` into ``out`` ``[pre, n / block, post]``."""
    gain = _summing_gain(block, form)
    terms = [x[:, start::block, :] for start in range(block)]

    def work(tile: Tile) -> None:
        total = out[tile]
        np.add(terms[0][tile], terms[1][tile], out=total)
        for term in terms[2:]:
            total += term[tile]
        if gain != 1.0:
            total *= gain

    share(work, [*_tiles(out.shape)])


def copy_into(x: Floats, block: int, form: Form, out: Floats) -> None:
    """:func:`copy_neighbours` into ``out`` ``[pre, n · block, post]``."""
    gain = _copying_gain(block, form)
    copies = [out[:, start::block, :] for start in range(block)]

    def work(tile: Tile) -> None:
        value = x[tile] if gain == 1.0 else x[tile] * gain
        for copy in copies:
            copy[tile] = value

    share(work, [*_tiles(x.shape)])


def copy_along_all(x: Floats, blocks: Sequence[int], gains: Sequence[float], out: Floats) -> None:
    """:func:`copy_into` along every axis at once, into ``out``: each number of it is written once, and none between.

    Args:
        x: of any rank.
        blocks: how many copies each axis makes of every index; 1: it stays.
        gains: to multiply by, one after the other, as the axes would.
        out: what the axes come to, in memory order.
    """
    n, block = x.shape[-1], blocks[-1]
    leading = [size for pair in zip(x.shape[:-1], blocks[:-1], strict=True) for size in pair]
    spread = out.reshape(*leading, n * block)
    copies = [*product(*(range(block) for block in blocks[:-1]))]

    def work(tile: tuple[slice, ...]) -> None:
        value = x[tile]
        for gain in gains:
            value = value * gain
        if block > 1:
            grown = np.empty((*value.shape, block), dtype=x.dtype)
            for copy in range(block):
                grown[..., copy] = value
            value = grown.reshape(*value.shape[:-1], n * block)
        for places in copies:
            spread[tuple(part for pair in zip(tile, places, strict=True) for part in pair)] = value

    rows = max(1, TILE // (n * block))
    share(work, [*_leading_tiles(x.shape[:-1], rows)])


def _leading_tiles(shape: tuple[int, ...], rows: int) -> Iterator[tuple[slice, ...]]:
    """Slices of all axes but the last one, of about so many rows."""
    if not shape:
        yield ()
        return
    inner = prod(shape[1:])
    if inner > rows:
        for i in range(shape[0]):
            yield from ((slice(i, i + 1), *rest) for rest in _leading_tiles(shape[1:], rows))
        return
    step = max(1, rows // inner)
    whole = tuple(slice(0, n) for n in shape[1:])
    yield from ((slice(i, i + step), *whole) for i in range(0, shape[0], step))


def _tiles(shape: tuple[int, ...]) -> Iterator[Tile]:
    """Slices that cover ``[pre, n, post]``, whole along the last axes as far as a tile goes."""
    pre, n, post = shape
    behind = max(1, min(post, TILE))
    middle = max(1, min(n, TILE // behind))
    before = max(1, min(pre, TILE // (behind * middle)))
    for i in range(0, pre, before):
        for j in range(0, n, middle):
            for k in range(0, post, behind):
                yield slice(i, i + before), slice(j, j + middle), slice(k, k + behind)

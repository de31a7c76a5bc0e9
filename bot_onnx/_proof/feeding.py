"""What the miniature is fed: small images where large ones would only take time and memory.

What is proven are channels, and a channel is computed alike at every place of an image. So images of 1024 x 1024 are
replaced by the smallest ones at which the network runs and every axis that was longer than one still is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import MaybeDim
from bot_onnx._proof.duplication import Duplication

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

_MUCH = 1 << 24  #: numbers in all values of a miniature, from which smaller inputs are tried
_LONG = 64  #: size of an axis that is made smaller
_DIVISORS = (32, 16, 8, 4, 2)


def input_shapes(
    analysis: Analysis, still: Duplication, ports: Mapping[str, ir.Value], watched: Sequence[ir.Value]
) -> Iterator[Shapes]:
    """Shapes of the inputs by name: smaller ones where there is something to gain, smallest first; last their own.

    Args:
        analysis: of the graph.
        still: sizes of the miniature.
        ports: inputs by name.
        watched: values that are compared.
    """
    of = analysis.context.axes_of
    own = {name: still.shape(of(value)) for name, value in ports.items()}
    long = {
        (name, axis)
        for name, value in ports.items()
        for axis, dim in enumerate(of(value))
        if own[name][axis] >= _LONG and not _resized(analysis, still, dim)
    }
    much = long and sum(prod(still.shape(of(value))) for value in watched) > _MUCH
    for divisor in _DIVISORS if much else ():
        if not any(own[name][axis] % divisor for name, axis in long):
            yield {
                name: tuple(size // divisor if (name, axis) in long else size for axis, size in enumerate(shape))
                for name, shape in own.items()
            }
    yield own


def shows_as_much(analysis: Analysis, still: Duplication, values: Mapping[str, Array], of: Sequence[ir.Value]) -> bool:
    """Whether values at other input shapes have the axes that they have at their own, none shrunk to a single index.

    Args:
        analysis: of the graph.
        still: sizes of the miniature.
        values: by name.
        of: the values.
    """
    return all(_alike(analysis, still, analysis.context.axes_of(value), values[value.name or ""].shape) for value in of)


def _alike(analysis: Analysis, still: Duplication, dims: Sequence[MaybeDim], shape: Sequence[int]) -> bool:
    known = still.shape(dims)
    return len(known) == len(shape) and all(
        size == own if _resized(analysis, still, dim) else (size > 1) == (own > 1)
        for dim, own, size in zip(dims, known, shape, strict=True)
    )


def _resized(analysis: Analysis, still: Duplication, dim: MaybeDim) -> bool:
    """Whether any part of a dim may change."""
    leaves = [] if dim is None else analysis.context.table.leaves(dim)
    return any(analysis.ids.get(leaf) in still.leaves for leaf in leaves)

"""Growing by exact duplication, as index maps: which index of the small network every index of the large one copies.

A leaf of n indices that grows k times has the map ``0 0 … 1 1 …``, every index k times; a product and a concat have the
maps that follow from their parts'. An array of the small network becomes the large one's by taking from it along every
axis. What is summed over an axis is shared out among the copies of an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Structure
from bot_onnx._target.composition import combine

Array = NDArray[np.generic]
Indices = NDArray[np.int64]


class Duplication:
    """The index maps of all dims of a graph.

    Attributes:
        small, large: size per dim id, before and after.
        leaves: ids of those whose size was given.
        structure: the graph's, at the small sizes.
    """

    def __init__(self, analysis: Analysis, small: Mapping[str, int], large: Mapping[str, int]) -> None:
        """``small`` and ``large`` give sizes of leaves; the others keep theirs."""
        self._analysis, self.leaves = analysis, frozenset(small)
        self.small, self.large = (_whole(analysis.structure, sizes) for sizes in (small, large))
        dims = {ident: replace(dim, size=self.small[ident]) for ident, dim in analysis.structure.dims.items()}
        self.structure = replace(analysis.structure, dims=dims)
        self._maps: dict[Dim, Indices | None] = {}

    def shape(self, dims: Sequence[MaybeDim], *, large: bool = False) -> tuple[int, ...]:
        """Sizes of axes in the first run, in the small network or the large one."""
        sizes = self.large if large else self.small
        return tuple(1 if dim is None else self._analysis.new_size(dim, sizes)[0] for dim in dims)

    def changes(self, dims: Sequence[MaybeDim]) -> bool:
        """Whether any of the axes grows."""
        return any(self.map(dim) is not None for dim in dims)

    def map(self, dim: MaybeDim) -> Indices | None:
        """``[large size]`` indices of the small network; None where a dim stays as it is."""
        if dim is None:
            return None
        root = self._analysis.context.table.find(dim)
        if root not in self._maps:
            self._maps[root] = self._map(root)
        return self._maps[root]

    def _map(self, root: Dim) -> Indices | None:
        table = self._analysis.context.table
        composite = table.composite(root)
        if composite is None:
            before, after = self.shape([root])[0], self.shape([root], large=True)[0]
            return None if before == after else np.repeat(np.arange(before), after // before)
        maps = [self.map(part) for part in composite.parts]
        if all(one is None for one in maps):
            return None
        sizes = self.shape(composite.parts)
        full = [np.arange(size) if one is None else one for one, size in zip(maps, sizes, strict=True)]
        if composite.kind == "concat":
            starts = np.cumsum([0, *sizes[:-1]])
            return np.concatenate([start + one for start, one in zip(starts, full, strict=True)])
        joined = full[0]
        for one, size in zip(full[1:], sizes[1:], strict=True):
            joined = (joined[:, None] * size + one[None, :]).reshape(-1)
        return joined

    def fits(self, array: Array, dims: Sequence[MaybeDim]) -> bool:
        """Whether an array of the small network has these axes, those that grow at their known lengths.

        The others have the length that was fed, or one that the network works out from its numbers (how long a word is
        spoken).
        """
        return len(dims) == array.ndim and all(
            self.map(dim) is None or self.shape([dim]) == (size,) for dim, size in zip(dims, array.shape, strict=True)
        )

    def grown(self, array: Array, dims: Sequence[MaybeDim]) -> Array:
        """An array of the small network as the large one has it."""
        for axis, dim in enumerate(dims):
            indices = self.map(dim)
            if indices is not None:
                array = np.take(array, indices, axis=axis)
        return array

    def leaf(self, axis: Axis) -> Indices:
        """The map of a leaf of a stack's axis."""
        root = self._roots.get(axis.dim)
        found = None if root is None else self.map(root)
        return np.arange(axis.target) if found is None else found

    @cached_property
    def _roots(self) -> dict[str, Dim]:
        return {ident: dim for dim, ident in self._analysis.ids.items()}


def _whole(structure: Structure, leaves: Mapping[str, int]) -> dict[str, int]:
    """Sizes of all dims where those of some leaves are given."""
    sizes: dict[str, int] = {}

    def size(ident: str) -> int:
        dim = structure.dims[ident]
        if ident not in sizes:
            parts = {part: size(part) for part in dim.parts}
            sizes[ident] = combine(dim, parts) if parts else leaves.get(ident, dim.size)
        return sizes[ident]

    return {ident: size(ident) for ident in structure.dims}

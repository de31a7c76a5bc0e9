"""From a structure and the sizes of its dims to what the network costs: the same function for files and for plans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._costs.extents import Extent, form_of
from bot_onnx._costs.types import OUTSIDE, Cost, Costs
from bot_onnx._ops import Macs, macs_of
from bot_onnx._patterns.alternating_layers import turn_length
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._runs.natural_sizes import natural_shapes
from bot_onnx._structure import Chain, Stack, Structure

_NO_FLOATS = ("INT", "UINT", "BOOL")
_AS_IT_IS: Mapping[str, str] = MappingProxyType({})
Shape = tuple[Extent, ...] | None


@dataclass(frozen=True, slots=True)
class _Counted:
    """A node that contracts, with the sizes around it."""

    macs: Macs
    node: ir.Node
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]

    def at(self, sizes: Mapping[str, int]) -> int:
        return self.macs(self.node, _numbers(self.inputs, sizes), _numbers(self.outputs, sizes))


def _numbers(shapes: Sequence[Shape], sizes: Mapping[str, int]) -> list[tuple[int, ...] | None]:
    return [None if shape is None else tuple(extent.at(sizes) for extent in shape) for shape in shapes]


@dataclass(frozen=True, slots=True)
class _Layers:
    """The nodes that contract, of one chain: of its leading layer, then layer by layer; and how more layers go on."""

    chain: Chain
    leading: tuple[_Counted, ...]
    layers: tuple[tuple[_Counted, ...], ...]
    turns: int

    def at(self, sizes: Mapping[str, int], count: int) -> int:
        """Of a chain of ``count`` layers: the first ones, or all of them and then the last ones in turn."""
        source, stacked = len(self.layers), count - self.chain.leading
        places = [n if n < source else source - self.turns + (n - source) % self.turns for n in range(stacked)]
        single = {place: macs_at(self.layers[place], sizes) for place in set(places)}
        return macs_at(self.leading, sizes) + sum(single[place] for place in places)


def macs_at(nodes: Iterable[_Counted], sizes: Mapping[str, int]) -> int:
    """Multiply-accumulates of some nodes where dims have ``sizes``."""
    return sum(node.at(sizes) for node in nodes)


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a network costs, as a function of its sizes.

    Attributes:
        structure: of the source.
        inputs: shapes of the inputs that multiply-accumulates are counted at.
        uncounted: nodes that are left out, see :class:`Costs`.
    """

    structure: Structure
    inputs: dict[str, tuple[int, ...]]
    chains: tuple[_Layers, ...]
    outside: tuple[_Counted, ...]
    uncounted: tuple[str, ...]

    def costs(
        self,
        sizes: Mapping[str, int] | None = None,
        layers: Mapping[str, int] | None = None,
        stored: Mapping[str, str] = _AS_IT_IS,
    ) -> Costs:
        """What the network costs at other sizes.

        Args:
            sizes: of every dim, by id; None: those of the source.
            layers: depth of every chain, by name; None: those of the source.
            stored: data type by id of the stacks whose bytes are counted as of another one than theirs.
        """
        sizes = {dim.id: dim.size for dim in self.structure.dims.values()} if sizes is None else sizes
        layers = {chain.name: chain.count for chain in self.structure.chains} if layers is None else layers
        parts = [
            self._part(name, layers[name], entry.at(sizes, layers[name]), sizes, stored)
            for entry in self.chains
            if (name := entry.chain.name)
        ]
        rest = self._part(None, 0, macs_at(self.outside, sizes), sizes, stored)
        return Costs.of(self.inputs, (*parts, rest), self.uncounted)

    def _part(
        self, name: str | None, layers: int, macs: int, sizes: Mapping[str, int], stored: Mapping[str, str]
    ) -> Cost:
        parameters, weight_bytes = self.weights(name, layers, sizes, stored)
        return Cost(name or OUTSIDE, layers, parameters, weight_bytes, macs)

    def weights(
        self, name: str | None, layers: int, sizes: Mapping[str, int], stored: Mapping[str, str] = _AS_IT_IS
    ) -> tuple[int, int]:
        """Parameters and bytes of the stacks of a chain with ``layers`` layers; None: of those outside of all."""
        parameters = weight_bytes = 0
        leading = {chain.name: chain.leading for chain in self.structure.chains}
        for stack in self.structure.stacks:
            if stack.chain != name:
                continue
            tensors = 1 if stack.shared or name is None else layers - leading[name]
            elements = tensors * elements_of(stack, sizes)
            parameters += 0 if stack.dtype.startswith(_NO_FLOATS) else elements
            weight_bytes += bytes_of(stored.get(stack.id, stack.dtype), elements)
        return parameters, weight_bytes


def elements_of(stack: Stack, sizes: Mapping[str, int]) -> int:
    """Elements of one tensor of a stack where dims have ``sizes``."""
    axes = zip(stack.axes, stack.shape, strict=True)
    return prod(extent if ident is None else sizes[ident] for ident, extent in axes)


def bytes_of(dtype: str, elements: int) -> int:
    """Bytes that numbers of an ONNX data type take, by its name."""
    return (ir.DataType[dtype].bitwidth * elements + 7) // 8


def sizing_of(analysis: Analysis) -> Sizing:
    """How the costs of a network follow from its sizes; the graph may change afterwards.

    Multiply-accumulates are counted at the shapes of the inputs that were given to the analysis, else at the smallest
    of those that it ran at, with a batch of one (see :func:`bot_onnx._runs.natural_sizes.natural_shapes`). The body of
    a Loop counts once, and both branches of an If.
    """
    inputs, seen = natural_shapes(analysis.model, analysis.context.observed)
    owners = {node: place for place in _places(analysis.chains) for node in place[2]}
    found: dict[tuple[int, int], list[_Counted]] = {}
    uncounted: list[str] = []
    sizes = {dim.id: dim.size for dim in analysis.structure.dims.values()}
    for node in analysis.model.graph:
        macs = macs_of(node)
        if macs is None:
            continue
        inner = [_shape(analysis, seen, value) for value in node.inputs]
        outer = [_shape(analysis, seen, value) for value in node.outputs]
        counted = _Counted(macs, node, tuple(inner), tuple(outer))
        if not _counts(counted, sizes):
            uncounted.append(node.name or node.op_type)
            continue
        place = owners.get(node, (-1, -1, ()))
        found.setdefault(place[:2], []).append(counted)
    chains = []
    for index, (chain, named) in enumerate(zip(analysis.chains, analysis.structure.chains, strict=True)):
        layers = tuple(tuple(found.get((index, n), ())) for n in range(len(chain.layers)))
        chains.append(_Layers(named, tuple(found.get((index, -1), ())), layers, turn_length(chain) or 1))
    outside = tuple(found.get((-1, -1), ()))
    return Sizing(analysis.structure, inputs, tuple(chains), outside, tuple(uncounted))


def _counts(counted: _Counted, sizes: Mapping[str, int]) -> bool:
    """Whether the shapes are there that the count needs: those in a branch that could not be run are not."""
    try:
        return counted.at(sizes) >= 0
    except (AssertionError, IndexError):
        return False


def _places(chains: Sequence[LayerChain]) -> Iterable[tuple[int, int, Sequence[ir.Node]]]:
    """Index of the chain, of the layer (-1: the leading one), and the nodes there."""
    for index, chain in enumerate(chains):
        if chain.leading is not None:
            yield index, -1, chain.leading.nodes
        for number, layer in enumerate(chain.layers):
            yield index, number, layer.nodes


def _shape(analysis: Analysis, seen: Mapping[str, tuple[int, ...]], value: ir.Value | None) -> Shape:
    """Extents of a value; None where it is left out, or was not seen."""
    shape = None if value is None else seen.get(value.name or "")
    dims = analysis.context.axes_of(value)
    if shape is None or len(dims) != len(shape):
        return None
    return tuple(Extent(size, form_of(analysis, dim)) for size, dim in zip(shape, dims, strict=True))

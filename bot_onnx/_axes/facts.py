"""What the walk over a graph found of axes, for the passes after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Dim, DimTable, MaybeDim, Pair
from bot_onnx._axes.shape_values import Elements, Expr, ShapeValues, SizeOf
from bot_onnx._canonical.spelling.seen import Observation

Axes = tuple[MaybeDim, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A number in the graph that must follow the sizes of dims.

    The needed value is ``sign`` x the sum of the sizes of ``dims`` + ``offset``. It sits in element ``element`` of
    input ``slot`` of ``node``, or in element ``element`` of the integer attribute named ``slot``.
    """

    node: ir.Node
    slot: int | str
    element: int
    dims: tuple[Dim, ...]
    expr: Expr | None = None
    sign: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class AttentionDims:
    """What the rule of an op that is a whole attention says of it.

    Attributes:
        head_dim, heads, value_dim: its dims; None for a size of 1.
        queries, keys: values that hold queries and keys (activations, or weights and biases of the op itself), each
            with the index of the equal part that they are, or None.
    """

    head_dim: Dim
    heads: MaybeDim
    value_dim: MaybeDim
    queries: tuple[tuple[ir.Value, int | None], ...]
    keys: tuple[tuple[ir.Value, int | None], ...]


@dataclass(frozen=True, slots=True)
class ValueAxes:
    """The axes of values, and what is known of their sizes and numbers.

    Attributes:
        table: all dims; the one store that passes change, by merging and freezing (see :class:`DimStore`).
        observed: shapes and small values of the two runs.
        shapes: small integer values, element by element.
        axes: dims per axis by the name of a value; values that are met later are added.
    """

    table: DimTable
    observed: Observation
    shapes: ShapeValues
    axes: dict[str, Axes] = field(default_factory=dict)

    def sizes(self, value: ir.Value) -> tuple[Pair, ...]:
        """Observed size pairs per axis."""
        return self.observed.shapes.get(value.name or "", ())

    def axes_of(self, value: ir.Value | None) -> Axes:
        """Dims per axis of a value; new leaves the first time an input or initializer is met."""
        if value is None:
            return ()
        name = value.name or ""
        if name not in self.axes:
            self.axes[name] = tuple(self.table.leaf(size) for size in self.sizes(value))
        return self.axes[name]

    def numbers(self, value: ir.Value | None) -> tuple[list[int], list[int]] | None:
        """Content of an integer value in both runs, or None where it was not observed."""
        if value is None:
            return None
        tensor = value.const_value
        if tensor is not None:
            content = [int(v) for v in np.asarray(tensor.numpy()).reshape(-1)] if tensor.dtype.is_integer() else None
            return None if content is None else (content, content)
        pair = self.observed.values.get(value.name or "")
        if pair is None or pair[0].dtype.kind not in "iub":
            return None
        return [int(v) for v in pair[0].reshape(-1)], [int(v) for v in pair[1].reshape(-1)]

    def elements(self, value: ir.Value | None) -> Elements | None:
        """Symbolic elements of an integer value."""
        return self.shapes.elements(value)

    def size_dim(self, value: ir.Value | None, element: int) -> MaybeDim:
        """The dim whose size this element is, if it is just that."""
        elements = self.elements(value)
        if elements is None or element >= len(elements):
            return None
        expr = elements[element]
        return self.table.find(expr.dim) if isinstance(expr, SizeOf) else None


@dataclass(frozen=True, slots=True)
class AxisFacts(ValueAxes):
    """What the rules reported of a whole graph.

    Attributes:
        requirements: numbers in the graph that must follow the sizes of dims.
        gathers: lookups by indices that are computed.
        contracted: the dim that a linear map sums over, by its node.
        conv_groups: dims of groups of convolutions.
        unknown: nodes whose op is not known, or that could not be run.
        attentions: what is known of nodes that are a whole attention.
    """

    requirements: tuple[Requirement, ...] = ()
    gathers: tuple[ir.Node, ...] = ()
    contracted: Mapping[ir.Node, MaybeDim] = field(default_factory=dict)
    conv_groups: tuple[Dim, ...] = ()
    unknown: tuple[ir.Node, ...] = ()
    attentions: Mapping[ir.Node, AttentionDims] = field(default_factory=dict)

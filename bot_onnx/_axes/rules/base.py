"""What an op rule works with: the axes of values so far, the dim table, and a place to say which sizes it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Dim, DimTable, MaybeDim, Pair
from bot_onnx._axes.shape_values import Elements, Expr, ShapeValues, SizeOf
from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._ops import find
from bot_onnx._reasons import Reason, Why
from bot_onnx._runs.probe import Alignment

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


@dataclass(slots=True)
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


@dataclass(slots=True)
class Context:
    """State of the axis analysis of one graph."""

    table: DimTable
    observed: Observation
    shapes: ShapeValues
    axes: dict[str, Axes] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    gathers: list[ir.Node] = field(default_factory=list)
    picked: list[tuple[ir.Node, Dim]] = field(default_factory=list)
    contracted: dict[ir.Node, MaybeDim] = field(default_factory=dict)
    conv_groups: list[Dim] = field(default_factory=list)
    unknown: list[ir.Node] = field(default_factory=list)
    opsets: Mapping[str, int] = field(default_factory=dict)
    probed: dict[tuple[object, ...], list[Alignment] | None] = field(default_factory=dict)
    attentions: dict[ir.Node, AttentionDims] = field(default_factory=dict)

    def sizes(self, value: ir.Value) -> tuple[Pair, ...]:
        """Observed size pairs per axis."""
        return self.observed.shapes.get(value.name or "", ())

    def of(self, value: ir.Value | None) -> Axes:
        """Dims per axis of a value; new leaves the first time an input or initializer is met."""
        if value is None:
            return ()
        name = value.name or ""
        if name not in self.axes:
            self.axes[name] = tuple(self.table.leaf(size) for size in self.sizes(value))
        return self.axes[name]

    def put(self, value: ir.Value, dims: Sequence[MaybeDim]) -> None:
        """Set the axes of an output. A dim whose size is not the observed one is replaced by a frozen leaf."""
        sizes = self.sizes(value)
        if len(sizes) != len(dims):
            self.fresh(value, Reason(Why.UNKNOWN_SHAPE))
            return
        if (0, 0) in sizes:  # nothing was computed: of an empty value some kernels do not say the shape
            sizes = self.observed.shapes[value.name or ""] = tuple(self.table.size(dim) for dim in dims)
        checked: list[MaybeDim] = []
        for dim, size in zip(dims, sizes, strict=True):
            if self.table.size(dim) == size:
                checked.append(None if size == (1, 1) else dim)
                continue
            leaf = self.table.leaf(size)
            self.table.freeze(leaf, Reason(Why.UNKNOWN_SIZE))
            self.table.freeze(dim, Reason(Why.UNKNOWN_SIZE))
            checked.append(leaf)
        self.axes[value.name or ""] = tuple(checked)

    def fresh(self, value: ir.Value, reason: Reason | None = None) -> None:
        """Give an output new leaves, frozen if a reason is given."""
        dims = tuple(self.table.leaf(size) for size in self.sizes(value))
        if reason is not None:
            for dim in dims:
                self.table.freeze(dim, reason)
        self.axes[value.name or ""] = dims

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

    def need(
        self, node: ir.Node, slot: int | str, element: int, dims: Sequence[Dim], *, sign: int = 1, offset: int = 0
    ) -> None:
        """Record that an element of an integer input (or attribute, by name) must follow the sizes of ``dims``."""
        elements = self.elements(node.inputs[slot]) if isinstance(slot, int) else None
        expr = elements[element] if elements is not None and element < len(elements) else None
        self.requirements.append(Requirement(node, slot, element, tuple(dims), expr, sign, offset))

    def need_attribute(self, node: ir.Node, name: str, element: int, dims: Sequence[Dim]) -> None:
        """Record that an element of an integer attribute must follow the sizes of ``dims``."""
        self.requirements.append(Requirement(node, name, element, tuple(dims)))


Rule = Callable[[Context, ir.Node], None]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for ONNX ops (default domain, or ``domain::op``).

    Raises:
        KeyError: an op without a record: what a rule says of axes is not all that has to be known of an op.
    """

    def register(function: Rule) -> Rule:
        for op in ops:
            if find(op) is None:
                raise KeyError(f"op {op} has a rule, but no record in bot_onnx/_ops")
            RULES[op] = function
        return function

    return register


def broadcast(context: Context, values: Sequence[Axes]) -> list[MaybeDim]:
    """Merge the axes of ``values`` right-aligned, as numpy broadcasting aligns them."""
    rank = max((len(dims) for dims in values), default=0)
    merged: list[MaybeDim] = [None] * rank
    for dims in values:
        for offset, dim in enumerate(reversed(dims), start=1):
            merged[-offset] = context.table.unify(merged[-offset], dim)
    return merged


def axis_of(node: ir.Node, name: str, default: int, rank: int) -> int:
    """A non-negative axis attribute."""
    axis = node.attributes.get_int(name, default)
    return axis + rank if axis < 0 else axis

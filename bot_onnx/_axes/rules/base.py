"""What an op rule works with: the axes of values so far, the dim table, and a place to say which sizes it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AttentionDims, Axes, AxisFacts, Requirement, ValueAxes
from bot_onnx._ops import find
from bot_onnx._reasons import Reason, Why
from bot_onnx._runs.probe import Alignment

__all__ = [
    "RULES", "AttentionDims", "Axes", "Context", "Requirement", "Rule", "axis_of", "broadcast", "rule",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Context(ValueAxes):
    """What rules read, and where they report: the lists and maps grow while the graph is walked, and only then.

    The fields are those of :class:`AxisFacts`, which :meth:`facts` makes of them in the end, and two that serve rules:

    Attributes:
        opsets: version of every domain that the model imports.
        probed: what running an op alone has shown, by its signature.
        picked: (node, dim) of every Gather with constant indices, of which :func:`hold_picked` makes requirements.
    """

    requirements: list[Requirement] = field(default_factory=list)
    gathers: list[ir.Node] = field(default_factory=list)
    picked: list[tuple[ir.Node, Dim]] = field(default_factory=list)
    contracted: dict[ir.Node, MaybeDim] = field(default_factory=dict)
    conv_groups: list[Dim] = field(default_factory=list)
    unknown: list[ir.Node] = field(default_factory=list)
    opsets: Mapping[str, int] = field(default_factory=dict)
    probed: dict[tuple[object, ...], list[Alignment] | None] = field(default_factory=dict)
    attentions: dict[ir.Node, AttentionDims] = field(default_factory=dict)

    def facts(self) -> AxisFacts:
        """What was reported, frozen."""
        return AxisFacts(
            self.table,
            self.observed,
            self.shapes,
            self.axes,
            requirements=tuple(self.requirements),
            gathers=tuple(self.gathers),
            contracted=MappingProxyType(dict(self.contracted)),
            conv_groups=tuple(self.conv_groups),
            unknown=tuple(self.unknown),
            attentions=MappingProxyType(dict(self.attentions)),
        )

    def set_axes(self, value: ir.Value, dims: Sequence[MaybeDim]) -> None:
        """Set the axes of an output. A dim whose size is not the observed one is replaced by a frozen leaf."""
        sizes = self.sizes(value)
        if len(sizes) != len(dims):
            self.new_axes(value, Reason(Why.UNKNOWN_SHAPE))
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

    def new_axes(self, value: ir.Value, reason: Reason | None = None) -> None:
        """Give an output new leaves, frozen if a reason is given."""
        dims = tuple(self.table.leaf(size) for size in self.sizes(value))
        if reason is not None:
            for dim in dims:
                self.table.freeze(dim, reason)
        self.axes[value.name or ""] = dims

    def require(
        self, node: ir.Node, slot: int | str, element: int, dims: Sequence[Dim], *, sign: int = 1, offset: int = 0
    ) -> None:
        """Record that an element of an integer input (or attribute, by name) must follow the sizes of ``dims``."""
        elements = self.elements(node.inputs[slot]) if isinstance(slot, int) else None
        expr = elements[element] if elements is not None and element < len(elements) else None
        self.requirements.append(Requirement(node, slot, element, tuple(dims), expr, sign, offset))

    def require_attribute(self, node: ir.Node, name: str, element: int, dims: Sequence[Dim]) -> None:
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

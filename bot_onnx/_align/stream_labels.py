"""What a walk over the residual stream says of values, what ends it, and the small questions that it asks of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

import onnx_ir as ir

from bot_onnx._align.stream import Reader
from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import IN_ORDER, Axes, Slot, is_sum, passes_on, record, reduces, slot_of
from bot_onnx._ops.nodes import node_inputs
from bot_onnx._patterns.parameters import is_parameter
from bot_onnx._reasons import Obstacle, Reason, Why

#: What a value that has to do with the stream is: a parameter along hidden; what linear maps wrote, not yet added to
#: anything; the stream; the same behind an activation; the result of a norm; steps of a norm that is written out
#: (mean over hidden and its square, stream less its mean, squares, their mean and what is made of it, the same times
#: the norm's scale, the quotient).
State = Literal[
    "parameter", "branch", "stream", "activated", "normed",
    "mean", "mean squared", "centred", "squares", "spread", "scaled spread", "quotient",
]  # fmt: skip

#: States of a value that is the stream, or may become it.
TRUNK = frozenset({"branch", "stream", "activated", "normed"})


@dataclass(frozen=True, slots=True)
class Label:
    """What a value is.

    Attributes:
        state: see :data:`State`. names: of parameters, for state ``parameter``.
        written: for ``branch``: parameters, and what scales them.
        norm: index of the norm that gave it, for ``normed``. centred: the mean is off, in steps of a norm.
    """

    state: State
    names: tuple[str, ...] = ()
    written: tuple[tuple[str, tuple[str, ...]], ...] = ()
    norm: int = -1
    centred: bool = False


@dataclass(slots=True)
class NormFound:
    """A norm, as far as the walk has come; see :class:`bot_onnx._align.stream.StreamNorm`."""

    scale: str
    bias: str | None
    centred: bool
    value: str
    stands: bool = False
    readers: list[Reader] = field(default_factory=list)


_L = TypeVar("_L")


class Labels(Generic[_L]):
    """A walk over a graph that says of every value what it is, and what is known of the values along hidden."""

    def __init__(self, graph: ir.Graph, context: AxisFacts, hidden: Dim) -> None:
        self._graph, self._context, self._hidden = graph, context, hidden
        self._labels: dict[int, _L] = {}

    def _begin(self, parameter: Callable[[str], _L]) -> None:
        """Label the parameters along hidden.

        Raises:
            Obstacle: an input carries hidden.
        """
        for value in self._graph.initializers.values():
            if is_parameter(value) and self._carries(value):
                self._labels[id(value)] = parameter(value.name or "")
        for value in self._graph.inputs:
            if self._carries(value):
                raise Obstacle(Reason.of(Why.STREAM_INPUT, value.name))

    def _labels_of(self, node: ir.Node) -> list[_L | None]:
        """Labels of what a node reads, by input.

        Raises:
            Obstacle: its bodies read values of the stream as well.
        """
        if any(self._label(value) is not None for value in node_inputs(node) if value not in node.inputs):
            raise Obstacle(Reason.at(Why.BODY, node))
        return [self._label(value) for value in node.inputs]

    def _carries(self, value: ir.Value) -> bool:
        """Whether hidden is an axis of a value.

        Raises:
            Obstacle: it is only a part of one.
        """
        table = self._context.table
        dims = [dim for dim in self._context.axes_of(value) if dim is not None]
        if any(table.find(dim) == self._hidden for dim in dims):
            return True
        if any(self._hidden in table.leaves(dim) for dim in dims):
            raise Obstacle(Reason.of(Why.PART_OF_AXIS, value.name))
        return False

    def _hidden_axes(self, value: ir.Value) -> list[int]:
        find = self._context.table.find
        dims = self._context.axes_of(value)
        return [axis for axis, dim in enumerate(dims) if dim is not None and find(dim) == self._hidden]

    def _label(self, value: ir.Value | None) -> _L | None:
        return None if value is None else self._labels.get(id(value))

    def _gone(self, node: ir.Node) -> Literal["", "hidden", "others"]:
        """Which axes a reduction takes away: not hidden, hidden alone, or hidden and others."""
        find = self._context.table.find
        after = {find(dim) for dim in self._context.axes_of(node.outputs[0]) if dim is not None}
        gone = [
            find(dim) for dim in self._context.axes_of(node.inputs[0]) if dim is not None and find(dim) not in after
        ]
        if self._hidden not in gone:
            return ""
        return "hidden" if len(gone) == 1 else "others"


def scaled(label: Label, scales: tuple[str, ...]) -> Label:
    """A branch times vectors, channel by channel."""
    return replace(label, written=tuple((name, (*before, *scales)) for name, before in label.written))


def difference(found: Sequence[Label]) -> Label | None:
    """What one value less another is, as a step of a norm."""
    if len(found) != 2:
        return None
    first, second = (label.state for label in found)
    if first in TRUNK and second == "mean":
        return Label("centred")
    if (first, second) == ("spread", "mean squared"):
        return Label("spread", centred=True)  # E[x²] - E[x]²
    return None


def is_mean(node: ir.Node) -> bool:
    """Whether a node takes the mean along whole axes, any of them."""
    return record(node).axes is Axes.REDUCED and reduces(node, "mean")


def bias_of(node: ir.Node) -> str | None:
    """Name of the bias added to what a linear node gives."""
    added = next((v for slot, v in enumerate(node.inputs) if slot_of(node, slot) is Slot.BIAS), None)
    if added is not None:
        return added.name if is_parameter(added) else None
    size = node.outputs[0].shape[-1] if node.outputs[0].shape is not None else None
    while True:
        uses = list(node.outputs[0].uses())
        if len(uses) != 1:
            return None
        node = uses[0].node
        if is_sum(node):
            bias = next((v for v in node.inputs if v is not None and is_parameter(v)), None)
            fits = bias is not None and bias.const_value is not None and (
                not isinstance(size, int) or bias.const_value.size == size
            )  # fmt: skip
            return bias.name if bias is not None and fits else None
        if not passes_on(node, IN_ORDER):
            return None


def number(value: ir.Value | None) -> float | None:
    """The number that a value holds, if it is one number."""
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.size != 1 or tensor.dtype == ir.DataType.STRING:
        return None
    return float(tensor.numpy().reshape(-1)[0])

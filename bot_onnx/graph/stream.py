"""The residual stream of a network with norms before its branches: who writes into it, which norms read it, and which
linear maps read those norms.

A rotation of the stream is invisible if every writer is linear and every reader stands behind a norm that only knows
the stream's length (and mean). Walking the graph once, every value that carries the hidden dim is given its state; an
op that a rotation would show through ends the walk with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from bot_onnx.graph.analysis import Analysis
from bot_onnx.graph.dims import Dim
from bot_onnx.graph.normalise import node_inputs
from bot_onnx.graph.parameters import is_parameter
from bot_onnx.ops import (
    FORM,
    IN_ORDER,
    Calc,
    Move,
    Slot,
    computes,
    is_layer_norm,
    is_linear,
    is_product,
    is_sum,
    linear_of,
    measures,
    norm_of,
    passes_on,
    reduces,
    slot_of,
)

_FORM = FORM | Move.PICKED | Move.JOINED
_STATISTICS = (Calc.POWER, Calc.ROOT, Calc.RECIPROCAL)

#: States of what a norm scales.
_SCALED = frozenset({"stream", "quotient"})

#: What a value that has to do with the stream is: a parameter along hidden, the stream, steps of a norm that is
#: written out (mean over hidden, stream less its mean, squares, their mean and what is made of it, the quotient), or
#: the result of a norm.
State = Literal["parameter", "stream", "mean", "centred", "squares", "spread", "quotient", "normed"]


@dataclass(frozen=True, slots=True)
class Reader:
    """A linear map of a norm's result: its weight, and the bias added to it."""

    weight: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class StreamNorm:
    """A norm of the stream.

    Attributes:
        scale, bias: names of its parameters. centred: it is a LayerNorm, not an RMSNorm. readers: of its result.
        value: name of what it scales (the stream itself where the norm is one op): the stream's direction is in it.
    """

    scale: str
    bias: str | None
    centred: bool
    readers: tuple[Reader, ...]
    value: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What the walk found.

    Attributes:
        hidden: id of the stream's dim, or empty.
        norms: in graph order. writers: names of all parameters whose hidden axis is written into the stream.
        obstacle: why the stream cannot be rotated, or None.
    """

    hidden: str
    norms: tuple[StreamNorm, ...] = ()
    writers: frozenset[str] = frozenset()
    obstacle: str | None = None


class _Obstacle(Exception):
    """An op that a rotation would show through."""


@dataclass(slots=True)
class _Label:
    state: State
    names: tuple[str, ...] = ()  # of parameters, for state "parameter"
    norm: int = -1
    centred: bool = False


@dataclass(slots=True)
class _Norm:
    scale: str
    bias: str | None
    centred: bool
    value: str
    readers: list[Reader] = field(default_factory=list)


def find_stream(analysis: Analysis) -> Stream:
    """Walk the graph of ``analysis`` (before a resize changes it)."""
    hidden = next((dim for dim in analysis.structure.dims.values() if dim.role == "hidden"), None)
    if hidden is None:
        return Stream("", obstacle="no dim of role hidden")
    root = next(dim for dim, identity in analysis.ids.items() if identity == hidden.id)
    walk = _Walk(analysis, analysis.context.table.find(root))
    try:
        if hidden.kind != "leaf":
            raise _Obstacle("hidden is put together from other dims")
        walk.run()
    except _Obstacle as obstacle:
        return Stream(hidden.id, obstacle=str(obstacle))
    norms = tuple(StreamNorm(n.scale, n.bias, n.centred, tuple(n.readers), n.value) for n in walk.norms)
    return Stream(hidden.id, norms, frozenset(walk.writers))


class _Walk:
    def __init__(self, analysis: Analysis, hidden: Dim) -> None:
        self._graph, self._context, self._hidden = analysis.model.graph, analysis.context, hidden
        self._labels: dict[int, _Label] = {}
        self.norms: list[_Norm] = []
        self.writers: set[str] = set()

    def run(self) -> None:
        for value in self._graph.initializers.values():
            if is_parameter(value) and self._carries(value):
                self._labels[id(value)] = _Label("parameter", (value.name or "",))
        for value in self._graph.inputs:
            if self._carries(value):
                raise _Obstacle(f"input '{value.name}' is part of the stream")
        for node in self._graph:
            self._visit(node)
        for output in self._graph.outputs:
            label = self._labels.get(id(output))
            if label is not None:
                raise _Obstacle(f"output '{output.name}' carries hidden, and would come out rotated")

    # -- facts of values ---------------------------------------------------------------------------------------

    def _carries(self, value: ir.Value) -> bool:
        """Whether hidden is an axis of a value.

        Raises:
            _Obstacle: it is only a part of one.
        """
        table = self._context.table
        dims = [dim for dim in self._context.of(value) if dim is not None]
        if any(table.find(dim) == self._hidden for dim in dims):
            return True
        if any(self._hidden in table.leaves(dim) for dim in dims):
            raise _Obstacle(f"value '{value.name}' has hidden as a part of an axis")
        return False

    def _hidden_axes(self, value: ir.Value) -> list[int]:
        find = self._context.table.find
        dims = self._context.of(value)
        return [axis for axis, dim in enumerate(dims) if dim is not None and find(dim) == self._hidden]

    def _label(self, value: ir.Value | None) -> _Label | None:
        return None if value is None else self._labels.get(id(value))

    def _put(self, node: ir.Node, label: _Label) -> None:
        for output in node.outputs:
            self._labels[id(output)] = label

    # -- the walk ----------------------------------------------------------------------------------------------

    def _visit(self, node: ir.Node) -> None:
        labels = [self._label(value) for value in node.inputs]
        if any(self._label(value) is not None for value in node_inputs(node) if value not in node.inputs):
            raise _Obstacle(f"the body of {_place(node)} reads values of the stream")
        present = [label for label in labels if label is not None]
        if not present:
            if any(self._carries(output) for output in node.outputs):
                raise _Obstacle(f"{_place(node)} makes values along hidden without a weight")
            return
        if measures(node):
            return
        if is_linear(node):
            self._linear(node, labels)
        elif is_layer_norm(node):
            self._norm(node, labels)
        elif slot_of(node, 0) is Slot.TABLE and labels[0] is not None and labels[0].state == "parameter":
            self._write(labels[0])
            self._put_carrying(node, _Label("stream"))
        elif passes_on(node, _FORM):
            self._form(node, labels)
        elif computes(node, Calc.SUM, Calc.DIFFERENCE):
            self._sum(node, labels)
        elif computes(node, Calc.PRODUCT, Calc.QUOTIENT):
            self._product(node, labels)
        elif computes(node, *_STATISTICS) or reduces(node, "mean"):
            self._statistic(node, labels)
        else:
            raise _Obstacle(f"{_place(node)} works on the stream element by element")

    def _put_carrying(self, node: ir.Node, label: _Label) -> None:
        for output in node.outputs:
            if not self._carries(output):
                raise _Obstacle(f"{_place(node)} takes hidden apart")
        self._put(node, label)

    def _write(self, label: _Label) -> None:
        self.writers.update(label.names)

    def _form(self, node: ir.Node, labels: list[_Label | None]) -> None:
        """Ops that change the form; a concatenation joins pieces of one state."""
        if not passes_on(node, Move.JOINED):
            label = labels[0]
            if label is None:
                raise _Obstacle(f"{_place(node)} addresses by values of the stream")
            if label.state in ("mean", "spread"):
                self._put(node, label)
            else:
                self._put_carrying(node, label)
            return
        if any(label is None for label in labels):
            raise _Obstacle(f"{_place(node)} joins the stream with something that is no part of it")
        found = [label for label in labels if label is not None]
        if {label.state for label in found} <= {"stream", "parameter"}:
            for label in found:
                self._write(label)
            self._put_carrying(node, _Label("stream"))
        elif all(label == found[0] for label in found):
            self._put_carrying(node, found[0])
        else:
            raise _Obstacle(f"{_place(node)} joins values of different kinds")

    def _sum(self, node: ir.Node, labels: list[_Label | None]) -> None:
        found = [label for label in labels if label is not None]
        states = [label.state for label in found]
        if len(found) == len(labels) and set(states) <= {"stream", "parameter"}:
            for label in found:
                self._write(label)
            self._put_carrying(node, _Label("stream"))
        elif computes(node, Calc.DIFFERENCE) and states == ["stream", "mean"]:
            self._put(node, _Label("centred"))
        elif states == ["spread"]:
            self._put(node, found[0])
        elif sorted(states) == ["normed", "parameter"] and is_sum(node):
            normed, parameter = sorted(found, key=lambda label: label.state)
            norm = self.norms[normed.norm]
            if norm.bias is not None or norm.readers or len(parameter.names) != 1:
                raise _Obstacle(f"{_place(node)} adds to what a norm gave")
            norm.bias = parameter.names[0]
            self._put(node, normed)
        elif "normed" in states:
            raise _Obstacle(f"{_place(node)} adds to what a norm gave, so the norm stands on the stream itself")
        else:
            raise _Obstacle(f"{_place(node)} adds something to the stream that no weight wrote")

    def _product(self, node: ir.Node, labels: list[_Label | None]) -> None:
        found = [label for label in labels if label is not None]
        states = sorted(label.state for label in found)
        if states in (["spread", "stream"], ["centred", "spread"]):
            spread = next(label for label in found if label.state == "spread")
            if spread.centred != ("centred" in states):
                raise _Obstacle(f"{_place(node)} is a norm of an unknown kind")
            self._put(node, _Label("quotient", centred=spread.centred))
        elif computes(node, Calc.PRODUCT) and states == ["parameter", "quotient"]:
            names = next(label.names for label in found if label.state == "parameter")
            centred = next(label.centred for label in found if label.state == "quotient")
            self._put(node, self._new_norm(node, names, None, centred))
        elif states in (["stream"] * 2, ["centred"] * 2) and _is_square(node):
            self._put(node, _Label("squares", centred=states[0] == "centred"))
        elif states in (["spread"], ["stream"]) and self._is_factor(node, labels):
            self._put(node, found[0])
        elif "parameter" in states:
            names = next(label.names for label in found if label.state == "parameter")
            raise _Obstacle(f"'{names[0]}' scales the stream element by element ({_place(node)})")
        else:
            raise _Obstacle(f"{_place(node)} multiplies values of the stream")

    def _is_factor(self, node: ir.Node, labels: list[_Label | None]) -> bool:
        """Whether the other operand is no more than a number per position, and no divisor is the stream itself."""
        divisor = labels[1] if computes(node, Calc.QUOTIENT) and labels[0] is None else None
        if divisor is not None and divisor.state != "spread":
            return False
        other = next((value for value, label in zip(node.inputs, labels, strict=True) if label is None), None)
        return other is not None and not self._carries(other)

    def _statistic(self, node: ir.Node, labels: list[_Label | None]) -> None:
        label = labels[0]
        value = node.inputs[0]
        if label is None or value is None:
            raise _Obstacle(f"{_place(node)} works on the stream element by element")
        if reduces(node, "mean"):
            if self._hidden_axes(node.outputs[0]) and label.state in ("stream", "normed"):
                self._put(node, label)  # a mean over positions
                return
            following: dict[State, State] = {"stream": "mean", "squares": "spread"}
            if label.state in following and self._only_hidden_reduced(node):
                self._put(node, _Label(following[label.state], centred=label.centred))
                return
        elif label.state == "spread":
            self._put(node, label)
            return
        elif computes(node, Calc.POWER) and label.state in ("stream", "centred") and _number(node.inputs[1]) == 2.0:
            self._put(node, _Label("squares", centred=label.state == "centred"))
            return
        raise _Obstacle(f"{_place(node)} is a norm of an unknown kind")

    def _only_hidden_reduced(self, node: ir.Node) -> bool:
        """Whether the axes that went are hidden alone."""
        before, after = self._context.of(node.inputs[0]), self._context.of(node.outputs[0])
        gone = [dim for dim in before if dim is not None and dim not in after]
        return len(gone) == 1 and self._context.table.find(gone[0]) == self._hidden

    def _norm(self, node: ir.Node, labels: list[_Label | None]) -> None:
        value = node.inputs[0]
        rank = len(self._context.of(value))
        axis = node.attributes.get_int("axis", -1) % max(rank, 1)
        if labels[0] is None or labels[0].state != "stream" or value is None:
            raise _Obstacle(f"{_place(node)} does not normalise the stream itself")
        if self._hidden_axes(value) != [rank - 1] or axis != rank - 1:
            raise _Obstacle(f"{_place(node)} normalises over more than hidden")
        scale = labels[1].names if len(labels) > 1 and labels[1] is not None else ()
        bias = labels[2].names[0] if len(labels) > 2 and labels[2] is not None else None
        label = self._new_norm(node, scale, bias, (known := norm_of(node)) is not None and known.centred)
        self._labels[id(node.outputs[0])] = label

    def _new_norm(self, node: ir.Node, scale: tuple[str, ...], bias: str | None, centred: bool) -> _Label:
        if len(scale) != 1:
            raise _Obstacle(f"{_place(node)} is a norm without a scale of its own")
        value = next(v for v in node.inputs if v is not None and (label := self._label(v)) and label.state in _SCALED)
        self.norms.append(_Norm(scale[0], bias, centred, value.name or ""))
        return _Label("normed", norm=len(self.norms) - 1)

    def _linear(self, node: ir.Node, labels: list[_Label | None]) -> None:
        """A linear map reads a norm's result, or writes into the stream, or both."""
        known = linear_of(node)
        if known is not None and not known.factors and len(labels) > 2:
            raise _Obstacle(f"{_place(node)} multiplies more than two values")
        operands = [label for label in labels[:2] if label is not None]
        activations = [label for label in operands if label.state != "parameter"]
        weights = [label for label in operands if label.state == "parameter"]
        inner = self._context.contracted.get(node)
        reads = inner is not None and self._context.table.find(inner) == self._hidden
        if not reads and (activations or (len(weights) != 1 and labels[:2] != [None, None])):
            raise _Obstacle(f"{_place(node)} multiplies values of the stream")
        if reads:
            self._read(node, activations, weights)
        if not any(self._carries(output) for output in node.outputs):
            return
        for label in (*weights, *(label for label in labels[2:] if label is not None)):
            self._write(label)
        if len(labels) > 2 and node.inputs[2] is not None and labels[2] is None:
            raise _Obstacle(f"{_place(node)} adds something to the stream that no weight wrote")
        self._put(node, _Label("stream"))

    def _read(self, node: ir.Node, activations: list[_Label], weights: list[_Label]) -> None:
        if len(activations) != 1 or len(weights) != 1 or len(weights[0].names) != 1:
            raise _Obstacle(f"{_place(node)} multiplies values of the stream")
        if activations[0].state != "normed":
            raise _Obstacle(f"'{weights[0].names[0]}' reads the stream without a norm before it ({_place(node)})")
        attributes = node.attributes
        plain = attributes.get_float("alpha", 1.0) == attributes.get_float("beta", 1.0) == 1.0
        tensor = self._graph.initializers[weights[0].names[0]].const_value
        if not is_product(node) or not plain or tensor is None or len(tensor.shape) != 2:
            raise _Obstacle(f"'{weights[0].names[0]}' reads a norm in a way that is not understood ({_place(node)})")
        self.norms[activations[0].norm].readers.append(Reader(weights[0].names[0], _bias_of(node)))


def _bias_of(node: ir.Node) -> str | None:
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


def _is_square(node: ir.Node) -> bool:
    return computes(node, Calc.PRODUCT) and node.inputs[0] is node.inputs[1]


def _number(value: ir.Value | None) -> float | None:
    tensor = value.const_value if value is not None else None
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _place(node: ir.Node) -> str:
    return f"{node.op_type} (node '{node.name}')"

"""One walk over the graph: every value that carries hidden is given its state; an op that a rotation of the residual
stream would show through ends the walk with a reason.

An activation shows a rotation, too; it is let pass where the stream ends in it (the transform before a masked-LM head:
what it gives is read by a norm and a head alone), since there a turned map is still closer than one that is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_ir as ir

from bot_onnx.graph.analysis import Analysis
from bot_onnx.graph.dims import Dim
from bot_onnx.graph.normalise import node_inputs
from bot_onnx.graph.parameters import is_parameter
from bot_onnx.graph.stream import Reader, Stream, StreamNorm

#: Ops that change the form of a value, or resample positions: linear, and the same for every channel.
_FORM = frozenset(
    "Cast Concat Dropout Expand Flatten Gather GatherND Identity Reshape Resize Slice Split Squeeze Tile Transpose "
    "Unsqueeze".split()
)
_NORM_OPS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
_ACTIVATIONS = frozenset(
    "Elu Erf FastGelu Gelu HardSigmoid HardSwish LeakyRelu Mish QuickGelu Relu Selu Sigmoid Softplus Swish Tanh".split()
)
_AFTER_LINEAR = frozenset({"Cast", "Identity", "Reshape"})

#: What a value that has to do with the stream is: a parameter along hidden; what linear maps wrote, not yet added to
#: anything; the stream; the same behind an activation; the result of a norm; steps of a norm that is written out
#: (mean over hidden and its square, stream less its mean, squares, their mean and what is made of it, the same times the
#: norm's scale, the quotient).
State = Literal[
    "parameter", "branch", "stream", "activated", "normed",
    "mean", "mean squared", "centred", "squares", "spread", "scaled spread", "quotient",
]  # fmt: skip

#: States of a value that is the stream, or may become it.
_TRUNK = frozenset({"branch", "stream", "activated", "normed"})


class _Obstacle(Exception):
    """An op that a rotation would show through."""


@dataclass(frozen=True, slots=True)
class _Label:
    state: State
    names: tuple[str, ...] = ()  # of parameters, for state "parameter"
    written: tuple[tuple[str, tuple[str, ...]], ...] = ()  # for "branch": parameters, and what scales them
    norm: int = -1
    centred: bool = False


@dataclass(slots=True)
class _Norm:
    scale: str
    bias: str | None
    centred: bool
    value: str
    stands: bool = False
    readers: list[Reader] = field(default_factory=list)


def find_stream(analysis: Analysis) -> Stream:
    """Walk the graph of ``analysis`` (before a resize changes it)."""
    hidden = next((dim for dim in analysis.structure.dims.values() if dim.role == "hidden"), None)
    if hidden is None:
        return Stream("", obstacle="no dim of role hidden")
    root = next(dim for dim, identity in analysis.ids.items() if identity == hidden.id)
    walk = _Walk(analysis, analysis.context.table.find(root), hidden.size)
    try:
        if hidden.kind != "leaf":
            raise _Obstacle("hidden is put together from other dims")
        walk.run()
    except _Obstacle as obstacle:
        return Stream(hidden.id, obstacle=str(obstacle))
    norms = tuple(StreamNorm(n.scale, n.bias, n.centred, tuple(n.readers), n.value, n.stands) for n in walk.norms)
    return Stream(hidden.id, norms, tuple(walk.readers), walk.writers, tuple(walk.outputs), walk.activated)


class _Walk:
    def __init__(self, analysis: Analysis, hidden: Dim, size: int) -> None:
        self._graph, self._context, self._hidden, self._size = analysis.model.graph, analysis.context, hidden, size
        self._labels: dict[int, _Label] = {}
        self.norms: list[_Norm] = []
        self.readers: list[Reader] = []
        self.writers: dict[str, tuple[str, ...]] = {}
        self.outputs: list[str] = []
        self.activated = False

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
            if label is not None and self._carries(output):
                if label.state not in _TRUNK or label.state == "activated":
                    raise _Obstacle(f"output '{output.name}' shows hidden element by element")
                self._land(label)
                self.outputs.append(output.name or "")

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

    def _put_carrying(self, node: ir.Node, label: _Label) -> None:
        for output in node.outputs:
            if not self._carries(output):
                raise _Obstacle(f"{_place(node)} takes hidden apart")
        self._put(node, label)

    def _is_vector(self, value: ir.Value | None) -> bool:
        """Whether a parameter has a number per channel and no more."""
        return value is not None and value.const_value is not None and value.const_value.size == self._size

    def _land(self, label: _Label) -> None:
        """A value goes on as the stream (or is shown): what wrote it writes into the stream."""
        if label.state == "normed":
            self.norms[label.norm].stands = True
        for name, scales in (*label.written, *((name, ()) for name in label.names)):
            if self.writers.setdefault(name, scales) != scales:
                raise _Obstacle(f"what '{name}' writes is scaled in two ways")

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
        op = node.op_type
        if op in ("Shape", "Size"):
            return
        if op in ("MatMul", "Gemm", "Conv"):
            self._linear(node, labels)
        elif op in _NORM_OPS:
            self._norm(node, labels)
        elif op == "Gather" and labels[0] is not None and labels[0].state == "parameter":
            self._put_carrying(node, _Label("branch", written=tuple((name, ()) for name in labels[0].names)))
        elif op in _FORM:
            self._form(node, labels)
        elif op == "Where":
            self._join(node, labels[1:])
        elif op in ("Add", "Sum", "Sub"):
            self._sum(node, labels)
        elif op in ("Mul", "Div"):
            self._product(node, labels)
        elif op in ("Pow", "Sqrt", "Reciprocal", "ReduceMean", "Max", "Clip"):
            self._statistic(node, labels)
        elif op in _ACTIVATIONS:
            self._activation(node, present)
        else:
            raise _Obstacle(f"{_place(node)} works on the stream element by element")

    def _activation(self, node: ir.Node, found: list[_Label]) -> None:
        """An activation of what a linear map wrote. It may not come back into the stream of the layers."""
        if any(label.state not in ("branch", "activated") for label in found):
            raise _Obstacle(f"{_place(node)} works on the stream element by element")
        for label in found:
            self._land(label)
        self.activated = True
        self._put_carrying(node, _Label("activated"))

    def _form(self, node: ir.Node, labels: list[_Label | None]) -> None:
        """Ops that change the form; a concatenation joins pieces of one state."""
        if node.op_type == "Concat":
            self._join(node, labels)
            return
        label = labels[0]
        if label is None:
            raise _Obstacle(f"{_place(node)} addresses by values of the stream")
        if label.state in ("mean", "mean squared", "spread"):
            self._put(node, label)
        else:
            self._put_carrying(node, label)

    def _join(self, node: ir.Node, labels: list[_Label | None]) -> None:
        """Pieces of the stream side by side."""
        found = [label for label in labels if label is not None]
        if len(found) < len(labels) or not found:
            raise _Obstacle(f"{_place(node)} joins the stream with something that is no part of it")
        if all(label == found[0] for label in found):
            self._put_carrying(node, found[0])
        elif {label.state for label in found} <= {"stream", "branch", "normed", "parameter"}:
            for label in found:
                self._land(label)
            self._put_carrying(node, _Label("stream"))
        else:
            raise _Obstacle(f"{_place(node)} joins values of different kinds")

    def _sum(self, node: ir.Node, labels: list[_Label | None]) -> None:
        found = [label for label in labels if label is not None]
        states = {label.state for label in found}
        if "activated" in states:
            if not states <= {"activated", "branch"}:
                raise _Obstacle(f"{_place(node)} adds what an activation gave to the stream")
            self._activation(node, found)
        elif len(found) < len(labels):
            if states != {"spread"}:
                raise _Obstacle(f"{_place(node)} adds something to the stream that no weight wrote")
            self._put(node, found[0])
        elif node.op_type == "Sub" and len(found) == 2 and found[0].state in _TRUNK and found[1].state == "mean":
            self._put(node, _Label("centred"))
        elif node.op_type == "Sub" and [label.state for label in found] == ["spread", "mean squared"]:
            self._put(node, _Label("spread", centred=True))  # E[x²] - E[x]²
        elif not states <= {*_TRUNK, "parameter"}:
            raise _Obstacle(f"{_place(node)} adds values of different kinds")
        elif not self._takes_bias(node, found):
            for label in found:
                self._land(label)
            self._put_carrying(node, _Label("stream"))

    def _takes_bias(self, node: ir.Node, found: list[_Label]) -> bool:
        """Whether a sum adds the bias of a norm, or of a linear map; the result has its label then."""
        parameter = next((i for i, label in enumerate(found) if label.state == "parameter"), None)
        if parameter is None or len(found) != 2 or node.op_type != "Add" or len(found[parameter].names) != 1:
            return False
        other, name = found[1 - parameter], found[parameter].names[0]
        if other.state == "branch":
            self._put_carrying(node, replace(other, written=(*other.written, (name, ()))))
            return True
        norm = self.norms[other.norm] if other.state == "normed" else None
        if norm is None or norm.bias is not None or norm.readers or not self._is_vector(node.inputs[parameter]):
            return False
        norm.bias = name
        self._put(node, other)
        return True

    def _product(self, node: ir.Node, labels: list[_Label | None]) -> None:
        found = sorted((label for label in labels if label is not None), key=lambda label: label.state)
        states = [label.state for label in found]
        parameter = next((label for label in found if label.state == "parameter"), None)
        step = self._scaling(node, {label.state: label for label in found}) if len(found) == 2 else None
        if step is None and node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
            step = self._squared(found[0])
        if step is not None:
            self._put(node, step)
        elif "activated" in states:
            self._activation(node, found)
        elif len(found) == 1 and (states == ["spread"] or states[0] in _TRUNK) and self._is_factor(node, labels):
            self._put(node, self._times_number(found[0]))
        elif node.op_type == "Mul" and states == ["branch", "parameter"] and self._is_layer_scale(node, labels):
            self._put(node, _scaled(found[0], found[1].names))
        elif parameter is not None:
            raise _Obstacle(f"'{parameter.names[0]}' scales the stream element by element ({_place(node)})")
        else:
            raise _Obstacle(f"{_place(node)} multiplies values of the stream")

    def _scaling(self, node: ir.Node, found: dict[State, _Label]) -> _Label | None:
        """A step of a norm that brings two of these together: what is normalised, its spread, the norm's scale."""
        states = set(found)
        spread = found.get("spread") or found.get("scaled spread")
        if spread is not None and states & {*_TRUNK, "centred"}:
            if spread.centred != ("centred" in states):
                raise _Obstacle(f"{_place(node)} is a norm of an unknown kind")
            if spread.state == "scaled spread":
                return self._new_norm(node, spread.names, None, spread.centred)
            return _Label("quotient", centred=spread.centred)
        if node.op_type == "Mul" and states == {"parameter", "quotient"}:
            return self._new_norm(node, found["parameter"].names, None, found["quotient"].centred)
        if node.op_type == "Mul" and spread is not None and states == {"parameter", "spread"}:
            return _Label("scaled spread", found["parameter"].names, centred=spread.centred)
        return None

    def _squared(self, label: _Label) -> _Label | None:
        """What the square of a value is, as a step of a norm."""
        if label.state == "mean":
            return _Label("mean squared")
        if label.state not in {"stream", "branch", "normed", "centred"}:
            return None
        self._land(label)
        return _Label("squares", centred=label.state == "centred")

    def _times_number(self, label: _Label) -> _Label:
        """A norm's bias would be multiplied, too: what it gives is the stream from there on."""
        if label.state == "normed":
            self._land(label)
            return _Label("stream")
        return label

    def _is_layer_scale(self, node: ir.Node, labels: list[_Label | None]) -> bool:
        return any(
            label is not None and label.state == "parameter" and len(label.names) == 1 and self._is_vector(value)
            for value, label in zip(node.inputs, labels, strict=True)
        )

    def _is_factor(self, node: ir.Node, labels: list[_Label | None]) -> bool:
        """Whether the other operand is no more than a number per position, and no divisor is the stream itself."""
        if node.op_type == "Div" and labels[0] is None and labels[1] is not None and labels[1].state != "spread":
            return False
        other = next((value for value, label in zip(node.inputs, labels, strict=True) if label is None), None)
        return other is not None and not self._carries(other)

    def _statistic(self, node: ir.Node, labels: list[_Label | None]) -> None:
        bounds = node.op_type in ("Max", "Clip")
        label = next(filter(None, labels)) if bounds else labels[0]
        if label is None or (bounds and label.state != "spread"):
            raise _Obstacle(f"{_place(node)} works on the stream element by element")
        power = _number(node.inputs[1]) if node.op_type == "Pow" else None
        if node.op_type == "ReduceMean":
            if self._hidden_axes(node.outputs[0]) and label.state in _TRUNK:
                self._put(node, label)  # a mean over positions
                return
            following: State | None = (
                "mean" if label.state in _TRUNK else "spread" if label.state == "squares" else None
            )
            if following is not None and self._only_hidden_reduced(node):
                self._land(label)
                self._put(node, _Label(following, centred=label.centred))
                return
        elif label.state == "spread":
            self._put(node, label)
            return
        elif power == 2.0 and (square := self._squared(label)) is not None:
            self._put(node, square)
            return
        elif power is not None and label.state in ("branch", "activated"):
            self._activation(node, [label])
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
        if labels[0] is None or labels[0].state not in _TRUNK or value is None:
            raise _Obstacle(f"{_place(node)} does not normalise the stream itself")
        if self._hidden_axes(value) != [rank - 1] or axis != rank - 1:
            raise _Obstacle(f"{_place(node)} normalises over more than hidden")
        scale = labels[1].names if len(labels) > 1 and labels[1] is not None else ()
        bias = labels[2].names[0] if len(labels) > 2 and labels[2] is not None else None
        self._land(labels[0])
        label = self._new_norm(node, scale, bias, node.op_type == "LayerNormalization")
        self._labels[id(node.outputs[0])] = label

    def _new_norm(self, node: ir.Node, scale: tuple[str, ...], bias: str | None, centred: bool) -> _Label:
        if len(scale) != 1:
            raise _Obstacle(f"{_place(node)} is a norm without a scale of its own")
        scaled = {*_TRUNK, "centred", "quotient"}
        value = next(v for v in node.inputs if v is not None and (label := self._label(v)) and label.state in scaled)
        self.norms.append(_Norm(scale[0], bias, centred, value.name or ""))
        return _Label("normed", norm=len(self.norms) - 1)

    def _linear(self, node: ir.Node, labels: list[_Label | None]) -> None:
        """A linear map reads the stream, or writes into it, or both."""
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
        if len(labels) > 2 and node.inputs[2] is not None and labels[2] is None:
            raise _Obstacle(f"{_place(node)} adds something to the stream that no weight wrote")
        wrote = (*weights, *(label for label in labels[2:] if label is not None))
        self._put(node, _Label("branch", written=tuple((name, ()) for label in wrote for name in label.names)))

    def _read(self, node: ir.Node, activations: list[_Label], weights: list[_Label]) -> None:
        if len(activations) != 1 or len(weights) != 1 or len(weights[0].names) != 1:
            raise _Obstacle(f"{_place(node)} multiplies values of the stream")
        label, name = activations[0], weights[0].names[0]
        if label.state not in _TRUNK:
            raise _Obstacle(f"'{name}' reads a norm halfway ({_place(node)})")
        plain = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
        tensor = self._graph.initializers[name].const_value
        if node.op_type == "Conv" or not plain or tensor is None or len(tensor.shape) != 2:
            raise _Obstacle(f"'{name}' reads the stream in a way that is not understood ({_place(node)})")
        reader = Reader(name, _bias_of(node))
        if label.state == "normed":
            self.norms[label.norm].readers.append(reader)
        else:
            self._land(label)
            self.readers.append(reader)


def _scaled(label: _Label, scales: tuple[str, ...]) -> _Label:
    return replace(label, written=tuple((name, (*before, *scales)) for name, before in label.written))


def _bias_of(node: ir.Node) -> str | None:
    """Name of the bias added to what a linear node gives."""
    added = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    if added is not None:
        return added.name if is_parameter(added) else None
    size = node.outputs[0].shape[-1] if node.outputs[0].shape is not None else None
    while True:
        uses = list(node.outputs[0].uses())
        if len(uses) != 1:
            return None
        node = uses[0].node
        if node.op_type == "Add":
            bias = next((v for v in node.inputs if v is not None and is_parameter(v)), None)
            fits = bias is not None and bias.const_value is not None and (
                not isinstance(size, int) or bias.const_value.size == size
            )  # fmt: skip
            return bias.name if bias is not None and fits else None
        if node.op_type not in _AFTER_LINEAR:
            return None


def _number(value: ir.Value | None) -> float | None:
    tensor = value.const_value if value is not None else None
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _place(node: ir.Node) -> str:
    return f"{node.op_type} (node '{node.name}')"

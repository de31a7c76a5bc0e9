"""One walk over the graph: every value that carries hidden is given its state; an op that a rotation of the residual
stream would show through ends the walk with a reason.

An activation shows a rotation, too; it is let pass where the stream ends in it (the transform before a masked-LM head:
what it gives is read by a norm and a head alone), since there a turned map is still closer than one that is not.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from bot_onnx._align.stream import Reader, Stream, StreamNorm
from bot_onnx._align.stream_labels import (
    TRUNK,
    Label,
    Labels,
    NormFound,
    State,
    bias_of,
    difference,
    is_mean,
    number,
    scaled,
)
from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim
from bot_onnx._ops import (
    FORM,
    Calc,
    Move,
    Slot,
    computes,
    data_slots,
    is_activation,
    is_layer_norm,
    is_linear,
    is_product,
    is_sum,
    linear_of,
    measures,
    norm_of,
    passes_on,
    slot_of,
)
from bot_onnx._reasons import Obstacle, Reason, Why
from bot_onnx._structure import Role

#: Ops that change the form of a value, or resample positions: linear, and the same for every channel.
_FORM = FORM | Move.PICKED | Move.JOINED | Move.RESIZED
_STATISTICS = (Calc.POWER, Calc.ROOT, Calc.RECIPROCAL, Calc.EXTREME)


def find_stream(analysis: Analysis) -> Stream:
    """Walk the graph of ``analysis`` (before a resize changes it)."""
    hidden = next((dim for dim in analysis.structure.dims.values() if dim.role == Role.HIDDEN), None)
    if hidden is None:
        return Stream("", obstacle=Reason(Why.NO_HIDDEN))
    root = next(dim for dim, identity in analysis.ids.items() if identity == hidden.id)
    walk = _Walk(analysis, analysis.context.table.find(root), hidden.size)
    try:
        if hidden.kind != "leaf":
            raise Obstacle(Reason(Why.COMPOSED))
        walk.run()
    except Obstacle as obstacle:
        return Stream(hidden.id, obstacle=obstacle.reason)
    norms = tuple(StreamNorm(n.scale, n.bias, n.centred, tuple(n.readers), n.value, n.stands) for n in walk.norms)
    return Stream(hidden.id, norms, tuple(walk.readers), walk.writers, tuple(walk.outputs), walk.activated)


class _Walk(Labels[Label]):
    def __init__(self, analysis: Analysis, hidden: Dim, size: int) -> None:
        super().__init__(analysis.model.graph, analysis.context, hidden)
        self._size = size
        self.norms: list[NormFound] = []
        self.readers: list[Reader] = []
        self.writers: dict[str, tuple[str, ...]] = {}
        self.outputs: list[str] = []
        self.activated = False

    def run(self) -> None:
        self._begin(lambda name: Label("parameter", (name,)))
        for node in self._graph:
            self._visit(node)
        for output in self._graph.outputs:
            label = self._labels.get(id(output))
            if label is not None and self._carries(output):
                if label.state not in TRUNK or label.state == "activated":
                    raise Obstacle(Reason.of(Why.STREAM_OUTPUT, output.name))
                self._land(label)
                self.outputs.append(output.name or "")

    def _land(self, label: Label) -> None:
        """A value goes on as the stream (or is shown): what wrote it writes into the stream."""
        if label.state == "normed":
            self.norms[label.norm].stands = True
        for name, scales in (*label.written, *((name, ()) for name in label.names)):
            if self.writers.setdefault(name, scales) != scales:
                raise Obstacle(Reason.of(Why.TWO_SCALES, name))

    def _put(self, node: ir.Node, label: Label) -> None:
        for output in node.outputs:
            self._labels[id(output)] = label

    def _put_carrying(self, node: ir.Node, label: Label) -> None:
        for output in node.outputs:
            if not self._carries(output):
                raise Obstacle(Reason.at(Why.TAKEN_APART, node))
        self._put(node, label)

    def _visit(self, node: ir.Node) -> None:
        labels = self._labels_of(node)
        if any(label is not None for label in labels):
            if not measures(node):
                self._step(node, labels)
        elif any(self._carries(output) for output in node.outputs):
            raise Obstacle(Reason.at(Why.MADE, node))

    def _step(self, node: ir.Node, labels: list[Label | None]) -> None:
        """A node that reads values of the stream."""
        if is_linear(node):
            self._linear(node, labels)
        elif is_layer_norm(node):
            self._norm(node, labels)
        elif slot_of(node, 0) is Slot.TABLE and labels[0] is not None and labels[0].state == "parameter":
            self._put_carrying(node, Label("branch", written=tuple((name, ()) for name in labels[0].names)))
        elif passes_on(node, _FORM):
            self._form(node, labels)
        elif passes_on(node, Move.CHOSEN):
            self._join(node, [labels[slot] for slot in data_slots(node)])
        elif computes(node, Calc.SUM, Calc.DIFFERENCE):
            self._sum(node, labels)
        elif computes(node, Calc.PRODUCT, Calc.QUOTIENT):
            self._product(node, labels)
        elif computes(node, *_STATISTICS) or is_mean(node):
            self._statistic(node, labels)
        elif is_activation(node):
            self._activation(node, [label for label in labels if label is not None])
        else:
            raise Obstacle(Reason.at(Why.ELEMENTWISE, node))

    def _activation(self, node: ir.Node, found: list[Label]) -> None:
        """An activation of what a linear map wrote. It may not come back into the stream of the layers."""
        if any(label.state not in ("branch", "activated") for label in found):
            raise Obstacle(Reason.at(Why.ELEMENTWISE, node))
        for label in found:
            self._land(label)
        self.activated = True
        self._put_carrying(node, Label("activated"))

    def _form(self, node: ir.Node, labels: list[Label | None]) -> None:
        """Ops that change the form; a concatenation joins pieces of one state."""
        if passes_on(node, Move.JOINED):
            self._join(node, labels)
            return
        label = labels[0]
        if label is None:
            raise Obstacle(Reason.at(Why.ADDRESSES, node))
        if label.state in ("mean", "mean squared", "spread"):
            self._put(node, label)
        else:
            self._put_carrying(node, label)

    def _join(self, node: ir.Node, labels: list[Label | None]) -> None:
        """Pieces of the stream side by side."""
        found = [label for label in labels if label is not None]
        if len(found) < len(labels) or not found:
            raise Obstacle(Reason.at(Why.JOINS_OTHER, node))
        if all(label == found[0] for label in found):
            self._put_carrying(node, found[0])
        elif {label.state for label in found} <= {"stream", "branch", "normed", "parameter"}:
            for label in found:
                self._land(label)
            self._put_carrying(node, Label("stream"))
        else:
            raise Obstacle(Reason.at(Why.JOINS_KINDS, node))

    def _sum(self, node: ir.Node, labels: list[Label | None]) -> None:
        found = [label for label in labels if label is not None]
        states = {label.state for label in found}
        if "activated" in states:
            if not states <= {"activated", "branch"}:
                raise Obstacle(Reason.at(Why.ADDS_ACTIVATED, node))
            self._activation(node, found)
        elif len(found) < len(labels):
            if states != {"spread"}:
                raise Obstacle(Reason.at(Why.ADDS_OTHER, node))
            self._put(node, found[0])
        elif computes(node, Calc.DIFFERENCE) and (step := difference(found)) is not None:
            self._put(node, step)
        elif not states <= {*TRUNK, "parameter"}:
            raise Obstacle(Reason.at(Why.ADDS_KINDS, node))
        elif not self._takes_bias(node, found):
            for label in found:
                self._land(label)
            self._put_carrying(node, Label("stream"))

    def _takes_bias(self, node: ir.Node, found: list[Label]) -> bool:
        """Whether a sum adds the bias of a norm, or of a linear map; the result has its label then."""
        parameter = next((i for i, label in enumerate(found) if label.state == "parameter"), None)
        if parameter is None or len(found) != 2 or not is_sum(node) or len(found[parameter].names) != 1:
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

    def _product(self, node: ir.Node, labels: list[Label | None]) -> None:
        found = sorted((label for label in labels if label is not None), key=lambda label: label.state)
        states = [label.state for label in found]
        parameter = next((label for label in found if label.state == "parameter"), None)
        step = self._scaling(node, {label.state: label for label in found}) if len(found) == 2 else None
        if step is None and computes(node, Calc.PRODUCT) and node.inputs[0] is node.inputs[1]:
            step = self._squared(found[0])
        if step is not None:
            self._put(node, step)
        elif "activated" in states:
            self._activation(node, found)
        elif len(found) == 1 and (states == ["spread"] or states[0] in TRUNK) and self._is_factor(node, labels):
            self._put(node, self._times_number(found[0]))
        elif computes(node, Calc.PRODUCT) and states == ["branch", "parameter"] and self._is_layer_scale(node, labels):
            self._put(node, scaled(found[0], found[1].names))
        elif parameter is not None:
            raise Obstacle(Reason.at(Why.SCALED, node, parameter.names[0]))
        else:
            raise Obstacle(Reason.at(Why.MULTIPLIES, node))

    def _scaling(self, node: ir.Node, found: dict[State, Label]) -> Label | None:
        """A step of a norm that brings two of these together: what is normalised, its spread, the norm's scale."""
        states = set(found)
        spread = found.get("spread") or found.get("scaled spread")
        if spread is not None and states & {*TRUNK, "centred"}:
            if spread.centred != ("centred" in states):
                raise Obstacle(Reason.at(Why.UNKNOWN_NORM, node))
            if spread.state == "scaled spread":
                return self._new_norm(node, spread.names, None, spread.centred)
            return Label("quotient", centred=spread.centred)
        if computes(node, Calc.PRODUCT) and states == {"parameter", "quotient"}:
            return self._new_norm(node, found["parameter"].names, None, found["quotient"].centred)
        if computes(node, Calc.PRODUCT) and spread is not None and states == {"parameter", "spread"}:
            return Label("scaled spread", found["parameter"].names, centred=spread.centred)
        return None

    def _squared(self, label: Label) -> Label | None:
        """What the square of a value is, as a step of a norm."""
        if label.state == "mean":
            return Label("mean squared")
        if label.state not in {"stream", "branch", "normed", "centred"}:
            return None
        self._land(label)
        return Label("squares", centred=label.state == "centred")

    def _times_number(self, label: Label) -> Label:
        """A norm's bias would be multiplied, too: what it gives is the stream from there on."""
        if label.state == "normed":
            self._land(label)
            return Label("stream")
        return label

    def _is_vector(self, value: ir.Value | None) -> bool:
        """Whether a parameter has a number per channel and no more."""
        return value is not None and value.const_value is not None and value.const_value.size == self._size

    def _is_layer_scale(self, node: ir.Node, labels: list[Label | None]) -> bool:
        return any(
            label is not None and label.state == "parameter" and len(label.names) == 1 and self._is_vector(value)
            for value, label in zip(node.inputs, labels, strict=True)
        )

    def _is_factor(self, node: ir.Node, labels: list[Label | None]) -> bool:
        """Whether the other operand is no more than a number per position, and no divisor is the stream itself."""
        divisor = labels[1] if computes(node, Calc.QUOTIENT) and labels[0] is None else None
        if divisor is not None and divisor.state != "spread":
            return False
        other = next((value for value, label in zip(node.inputs, labels, strict=True) if label is None), None)
        return other is not None and not self._carries(other)

    def _statistic(self, node: ir.Node, labels: list[Label | None]) -> None:
        bounds = computes(node, Calc.EXTREME)
        label = next(filter(None, labels)) if bounds else labels[0]
        if label is None or (bounds and label.state != "spread"):
            raise Obstacle(Reason.at(Why.ELEMENTWISE, node))
        power = number(node.inputs[1]) if computes(node, Calc.POWER) else None
        if is_mean(node):
            if self._hidden_axes(node.outputs[0]) and label.state in TRUNK:
                self._put(node, label)  # a mean over positions
                return
            following: State | None = "mean" if label.state in TRUNK else "spread" if label.state == "squares" else None
            if following is not None and self._gone(node) == "hidden":
                self._land(label)
                self._put(node, Label(following, centred=label.centred))
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
        raise Obstacle(Reason.at(Why.UNKNOWN_NORM, node))

    def _norm(self, node: ir.Node, labels: list[Label | None]) -> None:
        value = node.inputs[0]
        rank = len(self._context.axes_of(value))
        axis = node.attributes.get_int("axis", -1) % max(rank, 1)
        if labels[0] is None or labels[0].state not in TRUNK or value is None:
            raise Obstacle(Reason.at(Why.NORM_OF_OTHER, node))
        if self._hidden_axes(value) != [rank - 1] or axis != rank - 1:
            raise Obstacle(Reason.at(Why.NORM_OF_MORE, node))
        scale = labels[1].names if len(labels) > 1 and labels[1] is not None else ()
        bias = labels[2].names[0] if len(labels) > 2 and labels[2] is not None else None
        self._land(labels[0])
        label = self._new_norm(node, scale, bias, (known := norm_of(node)) is not None and known.centred)
        self._labels[id(node.outputs[0])] = label

    def _new_norm(self, node: ir.Node, scale: tuple[str, ...], bias: str | None, centred: bool) -> Label:
        if len(scale) != 1:
            raise Obstacle(Reason.at(Why.NORM_WITHOUT_SCALE, node))
        scaled = {*TRUNK, "centred", "quotient"}
        value = next(v for v in node.inputs if v is not None and (label := self._label(v)) and label.state in scaled)
        self.norms.append(NormFound(scale[0], bias, centred, value.name or ""))
        return Label("normed", norm=len(self.norms) - 1)

    def _linear(self, node: ir.Node, labels: list[Label | None]) -> None:
        """A linear map reads the stream, or writes into it, or both."""
        known = linear_of(node)
        if known is not None and not known.factors and len(labels) > 2:
            raise Obstacle(Reason.at(Why.MULTIPLIES_MANY, node))
        operands = [label for label in labels[:2] if label is not None]
        activations = [label for label in operands if label.state != "parameter"]
        weights = [label for label in operands if label.state == "parameter"]
        inner = self._context.contracted.get(node)
        reads = inner is not None and self._context.table.find(inner) == self._hidden
        if not reads and (activations or (len(weights) != 1 and labels[:2] != [None, None])):
            raise Obstacle(Reason.at(Why.MULTIPLIES, node))
        if reads:
            self._read(node, activations, weights)
        if not any(self._carries(output) for output in node.outputs):
            return
        if len(labels) > 2 and node.inputs[2] is not None and labels[2] is None:
            raise Obstacle(Reason.at(Why.ADDS_OTHER, node))
        wrote = (*weights, *(label for label in labels[2:] if label is not None))
        self._put(node, Label("branch", written=tuple((name, ()) for label in wrote for name in label.names)))

    def _read(self, node: ir.Node, activations: list[Label], weights: list[Label]) -> None:
        if len(activations) != 1 or len(weights) != 1 or len(weights[0].names) != 1:
            raise Obstacle(Reason.at(Why.MULTIPLIES, node))
        label, name = activations[0], weights[0].names[0]
        if label.state not in TRUNK:
            raise Obstacle(Reason.at(Why.NORM_HALFWAY, node, name))
        plain = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
        tensor = self._graph.initializers[name].const_value
        if not is_product(node) or not plain or tensor is None or len(tensor.shape) != 2:
            raise Obstacle(Reason.at(Why.UNKNOWN_READER, node, name))
        reader = Reader(name, bias_of(node))
        if label.state == "normed":
            self.norms[label.norm].readers.append(reader)
        else:
            self._land(label)
            self.readers.append(reader)

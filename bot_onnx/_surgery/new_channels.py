"""What the new channels of a residual stream hold, value by value, if it grows by further channels.

A walk along the graph under one law: ``zeros``, every value of the stream holds 0 in them, or ``means``, the mean of
the old channels. An op that does not keep to the law ends the walk with a reason; what keeps to it nearly is noted.
See :mod:`bot_onnx._surgery.widening` for what it is good for.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._align.stream_labels import Labels, number
from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim
from bot_onnx._ops import (
    FORM,
    Calc,
    Move,
    Slot,
    computes,
    data_slots,
    function_of,
    is_layer_norm,
    is_linear,
    is_sum,
    measures,
    norm_of,
    passes_on,
    record,
    reduces,
    reduction_of,
    slot_of,
)
from bot_onnx._reasons import Obstacle, Reason, Why
from bot_onnx._surgery.channel_labels import Epsilon, Label, State, WalkedNorm, WideningLaw


class ChannelWalk(Labels[Label]):
    """One walk.

    Attributes:
        norms, epsilons: of the stream. nearly: where the law is kept nearly, and why. shown: outputs whose new channels
            hold 0 under the law ``means``. centred: a norm was met that takes the mean off.
    """

    def __init__(self, analysis: Analysis, hidden: Dim, law: WideningLaw) -> None:
        super().__init__(analysis.model.graph, analysis.context, hidden)
        self.law = law
        self._base: State = "zero" if law == "zeros" else "mean"
        self.norms: list[WalkedNorm] = []
        self.epsilons: list[Epsilon] = []
        self.nearly: list[Reason] = []
        self.shown: set[str] = set()
        self._formulas = {name for s in analysis.structure.stacks if s.closed_form is not None for name in s.tensors}
        self.centred = False

    def run(self) -> Reason | None:
        """Walk; returns why the graph does not keep to the law, or nothing."""
        try:
            self._run()
        except Obstacle as obstacle:
            return obstacle.reason
        return None

    def _run(self) -> None:
        self._begin(lambda name: Label("weight", (name,)))
        for node in self._graph:
            self._visit(node)
        for output in self._graph.outputs:
            label = self._labels.get(id(output))
            if label is not None and label.state not in ("zero", "mean"):
                raise Obstacle(Reason.of(Why.NORM_OUTPUT, output.name))
            if label is not None and label.state == "zero" and not self._is_stream(label):
                self.shown.add(output.name or "")

    def _is_stream(self, label: Label) -> bool:
        return label.norm >= 0 and self.norms[label.norm].streams

    def _put(self, node: ir.Node, label: Label) -> None:
        for output in node.outputs:
            if label.state in ("average", "spread") or self._carries(output):
                self._labels[id(output)] = label

    def _near(self, reason: Reason) -> None:
        self.nearly.append(reason)

    # -- the walk ----------------------------------------------------------------------------------------------

    def _visit(self, node: ir.Node) -> None:
        labels = self._labels_of(node)
        found = [label for label in labels if label is not None]
        if measures(node):
            return
        if not found:
            self._made(node)
        elif all(label.state == "same" for label in found):
            self._same(node)
        else:
            self._step(node, labels)

    def _made(self, node: ir.Node) -> None:
        """What reads nothing of the stream: one value for every channel, or nothing along it."""
        if passes_on(node, Move.REPEATED) or record(node).fills:
            self._put(node, Label("same"))
        elif any(self._carries(output) for output in node.outputs):
            raise Obstacle(Reason.at(Why.MADE, node))

    def _step(self, node: ir.Node, labels: list[Label | None]) -> None:
        """A node that reads values of the stream."""
        if is_linear(node):
            self._linear(node, labels)
        elif is_layer_norm(node):
            self._norm(node, labels)
        elif computes(node, Calc.SUM, Calc.DIFFERENCE):
            self._sum(node, labels)
        elif computes(node, Calc.PRODUCT, Calc.QUOTIENT):
            self._product(node, labels)
        elif reduction_of(node) is not None:
            self._reduction(node, next(label for label in labels if label is not None))
        elif passes_on(node, Move.JOINED | Move.CHOSEN) or (record(node).variadic and computes(node, Calc.EXTREME)):
            self._join(node, labels)
        elif labels[0] is None:
            raise Obstacle(Reason.at(Why.ADDRESSES, node))
        elif slot_of(node, 0) is Slot.TABLE:
            self._look_up(node, labels[0])
        else:
            self._element(node, labels[0])

    def _look_up(self, node: ir.Node, label: Label) -> None:
        """Rows of a table, or positions of a value."""
        if self._carries(node.outputs[0]):
            self._put(node, Label(self._base) if label.state == "weight" else label)
        elif not all(measures(usage.node) for usage in node.outputs[0].uses()):
            raise Obstacle(Reason.at(Why.PICKS_CHANNELS, node))

    def _element(self, node: ir.Node, label: Label) -> None:
        """Ops on one value: changes of form, and functions of every element."""
        state = label.state
        if passes_on(node, FORM) or computes(node, Calc.NEGATION):
            if state not in ("average", "spread") and not all(self._carries(output) for output in node.outputs):
                raise Obstacle(Reason.at(Why.TAKEN_APART, node))
            self._put(node, label)
        elif state == "spread" and computes(node, Calc.ROOT, Calc.RECIPROCAL, Calc.POWER):
            self._put(node, label)
        elif computes(node, Calc.POWER) and state in ("zero", "mean") and number(node.inputs[1]) == 2.0:
            self._put(node, Label("squares" if state == "zero" else "any"))
        elif (known := function_of(node)) is not None and known.zero and state in ("zero", "mean"):
            if state == "mean":
                self._near(Reason.at(Why.ELEMENTWISE, node))
            self._put(node, Label(state))
        elif (known is not None or computes(node, Calc.POWER)) and state in ("zero", "mean", "any"):
            self._put(node, Label("any"))
        else:
            raise Obstacle(Reason.at(Why.UNKNOWN_WORK, node))

    def _same(self, node: ir.Node) -> None:
        """Ops on what every channel holds alike: none of them tells channels apart but a count of them."""
        if (known := reduction_of(node)) is not None and known.counts and self._gone(node):
            raise Obstacle(Reason.at(Why.COUNTS_CHANNELS, node))
        if is_linear(node):
            raise Obstacle(Reason.at(Why.READS_OTHER, node))
        self._put(node, Label("same"))

    def _join(self, node: ir.Node, labels: list[Label | None]) -> None:
        """Pieces along another axis, or a choice between them."""
        pieces = [labels[slot] for slot in data_slots(node)]
        if any(label is None for label in pieces) or (passes_on(node, Move.CHOSEN) and labels[0] is not None):
            raise Obstacle(Reason.at(Why.JOINS_OTHER, node))
        found = [label for label in pieces if label is not None]
        states = {label.state for label in found}
        if states == {"weight"} or (states <= {"weight", self._base} and not self._normed(found)):
            self._put(node, Label("weight" if states == {"weight"} else self._base))
        elif states <= {"zero", "mean", "weight"}:
            self._put(node, self._streams(node, found))
        else:
            raise Obstacle(Reason.at(Why.JOINS_KINDS, node))

    def _normed(self, labels: list[Label]) -> bool:
        return any(label.norm >= 0 for label in labels)

    def _streams(self, node: ir.Node, labels: list[Label]) -> Label:
        """What a norm gave becomes (part of) the stream."""
        if self.law == "zeros":
            return Label("zero")
        for label in labels:
            if label.norm >= 0:
                self.norms[label.norm].streams = True
        self._near(Reason.at(Why.NORM_STANDS, node))
        return Label("mean")

    def _sum(self, node: ir.Node, labels: list[Label | None]) -> None:
        found = [label for label in labels if label is not None and label.state != "same"]
        states = sorted(label.state for label in found)
        if len(found) < 2:
            self._sum_with_number(node, labels, found[0])
        elif states == ["weight", "weight"]:
            self._put(node, Label("weight"))
        elif computes(node, Calc.DIFFERENCE) and states == ["average", "mean"]:
            self._put(node, Label("zero"))
        elif states == ["weight", "zero"] and self._is_bias(found):
            normed = next(label for label in found if label.norm >= 0)
            self.norms[normed.norm].bias = next(label.names[0] for label in found if label.state == "weight")
            self._put(node, normed)
        elif set(states) <= {"weight", "zero", "mean"}:
            if self.law == "zeros" or "zero" not in states:
                self._put(node, Label(self._base))
            else:
                self._put(node, self._streams(node, found))
        else:
            raise Obstacle(Reason.at(Why.ADDS_KINDS, node))

    def _is_bias(self, found: list[Label]) -> bool:
        """Whether a sum adds a norm's bias to what it scaled, the first that is added."""
        normed = next((label for label in found if label.norm >= 0), None)
        weight = next(label for label in found if label.state == "weight")
        return normed is not None and self.norms[normed.norm].bias is None and len(weight.names) == 1

    def _sum_with_number(self, node: ir.Node, labels: list[Label | None], label: Label) -> None:
        other = next(value for value, known in zip(node.inputs, labels, strict=True) if known is not label)
        scalar = other is not None and other.const_value is not None and other.const_value.size == 1
        if label.state == "spread" and scalar and other is not None:
            self.epsilons.append(Epsilon(node, list(node.inputs).index(other)))
            self._put(node, label)
        elif label.state == "weight" and scalar:  # norms that scale by 1 + w
            self._put(node, label)
        elif label.state in ("mean", "any"):
            self._put(node, Label(label.state))
        else:
            raise Obstacle(Reason.at(Why.ADDS_ALIKE, node))

    def _product(self, node: ir.Node, labels: list[Label | None]) -> None:
        found = [label for label in labels if label is not None and label.state != "same"]
        states = sorted(label.state for label in found)
        if len(found) == 1:
            self._scaled_by_number(node, labels, found[0])
        elif states == ["weight", "weight"]:
            self._put(node, Label("weight"))
        elif states == ["spread", "zero"]:
            self._put(node, Label("zero", norm=self._new_norm(())))
        elif states == ["spread", "weight"]:
            self._put(node, Label("scaled", next(label.names for label in found if label.state == "weight")))
        elif states == ["scaled", "zero"]:
            names = next(label.names for label in found if label.state == "scaled")
            self._put(node, Label("zero", norm=self._new_norm(self._scale(node, names))))
        elif states == ["weight", "zero"] and computes(node, Calc.PRODUCT):
            self._put(node, self._scale_of_norm(node, found))
        elif states == ["zero", "zero"] and node.inputs[0] is node.inputs[1]:
            self._put(node, Label("squares"))
        elif "zero" in states and set(states) <= {"weight", "zero", "mean", "any"} and computes(node, Calc.PRODUCT):
            self._put(node, Label("zero"))
        elif states == ["mean", "weight"]:
            self._near(Reason.at(Why.SCALES_ELEMENTS, node))
            self._put(node, Label("mean"))
        else:
            raise Obstacle(Reason.at(Why.MULTIPLIES, node))

    def _scale_of_norm(self, node: ir.Node, found: list[Label]) -> Label:
        """0 times a weight is 0; right behind a norm that has none yet it is the norm's scale."""
        zero = next(label for label in found if label.state == "zero")
        names = next(label.names for label in found if label.state == "weight")
        if zero.norm < 0 or self.norms[zero.norm].scale:
            return Label("zero")
        self.norms[zero.norm].scale = self._scale(node, names)
        return zero

    def _scaled_by_number(self, node: ir.Node, labels: list[Label | None], label: Label) -> None:
        if computes(node, Calc.QUOTIENT) and labels[0] is not label and label.state not in ("spread", "any"):
            raise Obstacle(Reason.at(Why.DIVIDES, node))
        if label.state in ("squares", "average", "scaled"):
            raise Obstacle(Reason.at(Why.UNKNOWN_NORM, node))
        self._put(node, label)

    def _reduction(self, node: ir.Node, label: Label) -> None:
        gone = self._gone(node)
        if not gone:
            kept = reduces(node, "mean", "sum") or (label.state == "zero" and reduces(node, "extreme"))
            if label.state not in ("zero", "mean") or not kept:
                raise Obstacle(Reason.at(Why.UNKNOWN_WORK, node))
            self._put(node, label)  # over positions
        elif gone == "others":
            raise Obstacle(Reason.at(Why.REDUCES_MORE, node))
        elif label.state == "mean" and reduces(node, "mean"):
            self._put(node, Label("average"))
        elif label.state == "squares" and reduces(node, "mean"):
            self._put(node, Label("spread"))
        elif label.state in ("zero", "squares") and reduces(node, "sum", "squares", "norm"):
            return  # zeros add nothing
        elif label.state == "zero" and reduces(node, "mean"):
            self.centred = True
            raise Obstacle(Reason.at(Why.MEAN_OF_CHANNELS, node))
        else:
            raise Obstacle(Reason.at(Why.UNKNOWN_NORM, node))

    def _norm(self, node: ir.Node, labels: list[Label | None]) -> None:
        value = node.inputs[0]
        dims = self._context.axes_of(value)
        last = dims[-1] if dims else None
        axis = node.attributes.get_int("axis", -1) % max(len(dims), 1)
        if labels[0] is None or last is None or self._context.table.find(last) != self._hidden or axis != len(dims) - 1:
            raise Obstacle(Reason.at(Why.NORM_OF_MORE, node))
        centred = (known := norm_of(node)) is not None and known.centred
        self.centred = self.centred or centred
        if centred != (self.law == "means"):
            raise Obstacle(Reason.at(Why.OTHER_NORM, node))
        state = labels[0].state
        if self.law == "means" and state == "zero":
            self._streams(node, [labels[0]])
        elif state != self._base:
            raise Obstacle(Reason.at(Why.NORM_OF_UNKNOWN, node))
        scale = self._scale(node, labels[1].names if len(labels) > 1 and labels[1] is not None else ())
        index = self._new_norm(scale)
        if len(labels) > 2 and labels[2] is not None:
            self.norms[index].bias = labels[2].names[0]
        self.epsilons.append(Epsilon(node, "epsilon"))
        self._labels[id(node.outputs[0])] = Label("zero", norm=index)

    def _new_norm(self, scale: tuple[str, ...]) -> int:
        self.norms.append(WalkedNorm(scale))
        return len(self.norms) - 1

    def _scale(self, node: ir.Node, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) != 1 or names[0] in self._formulas:
            raise Obstacle(Reason.at(Why.NORM_WITHOUT_SCALE, node))
        return names

    def _linear(self, node: ir.Node, labels: list[Label | None]) -> None:
        """A map that reads the stream, writes into it, or mixes positions of it."""
        inner = self._context.contracted.get(node)
        reads = inner is not None and self._context.table.find(inner) == self._hidden
        moving = [label for label in labels[:2] if label is not None and label.state != "weight"]
        if any(label.state not in ("zero", "mean") for label in moving):
            raise Obstacle(Reason.at(Why.READS_OTHER, node))
        if reads and self.law == "means":
            self._read_means(node, labels, moving)
        if not any(self._carries(output) for output in node.outputs):
            return
        if moving and not reads:  # weights of attention times the stream, or a filter of its own for every channel
            if any(label is not None and label.state == "weight" for label in labels[:2]) and moving[0].state == "mean":
                raise Obstacle(Reason.at(Why.FILTERS, node))
            self._put(node, Label(moving[0].state))
            return
        self._put(node, Label(self._base))

    def _read_means(self, node: ir.Node, labels: list[Label | None], moving: list[Label]) -> None:
        """Two activations, or a weight that is written into the stream too, multiply mean by mean."""
        weights = [label for label in labels[:2] if label is not None and label.state == "weight"]
        tied = any(name in self._written for label in weights for name in label.names)
        if any(label.state == "mean" for label in moving) and (len(moving) > 1 or tied):
            self._near(Reason.at(Why.MULTIPLIES_TIED, node))

    @property
    def _written(self) -> set[str]:
        """Names of the weights that are looked up, or added, and so written into the stream."""
        return {
            value.name or ""
            for value in self._graph.initializers.values()
            if id(value) in self._labels and any(_writes(usage.node, usage.idx) for usage in value.uses())
        }


def _writes(node: ir.Node, slot: int) -> bool:
    return is_sum(node) or slot_of(node, slot) is Slot.TABLE

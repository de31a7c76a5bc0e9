"""Give an attention with one key and value head two of them, in the graph: every value on the way is walked along.

What is doubled is a block of an axis: the one head of an axis of its own, its channels in a matrix, keys and values
behind the queries in a fused one. Each op says how the block goes on. Where two heads meet more query heads, every
head is repeated for its group first. An op that no rule is for ends the walk with a reason: then nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Pair, times
from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._ops import IN_PLACE, op_key, passes_on
from bot_onnx._ops.nodes import behind_views, names_in

Blocks = tuple[tuple[int, int], ...]
COPIES = 2  #: heads that one becomes
UNIT: Pair = (1, 1)
IMAGE = 4  #: rank of what has an axis for heads
_ONE: Blocks = ((0, 1),)


class Misfit(Exception):
    """An op whose way with a second head is not known."""


@dataclass(frozen=True, slots=True)
class Doubled:
    """Blocks (start, length) of an axis that stand twice in a row once there are two heads.

    ``grouped``: a value ``[…, 1, query heads, …]``, which becomes ``[…, 2, query heads / 2, …]``. ``folded``: the heads
    are the fast part of an axis that is set at run time (batch x heads).
    """

    axis: int
    blocks: Blocks = _ONE
    grouped: bool = False
    folded: bool = False

    @property
    def more(self) -> int:
        """By how much the axis grows."""
        return sum(length for _, length in self.blocks)

    def moved(self, bound: int) -> int:
        """Where a bound between indices comes to lie.

        Raises:
            Misfit: it lies within a block.
        """
        if any(start < bound < start + length for start, length in self.blocks):
            raise Misfit("cuts through a head")
        return bound + sum(length for start, length in self.blocks if start + length <= bound)

    def within(self, start: int, stop: int) -> Doubled | None:
        """What a piece of the axis has of it."""
        self.moved(start), self.moved(stop)
        held = tuple((first - start, length) for first, length in self.blocks if start <= first < stop)
        return replace(self, blocks=held) if held else None


Rule = Callable[["HeadWalk", ir.Node, dict[int, Doubled]], None]
RULES: dict[str, Rule] = {}


def walks(*ops: str) -> Callable[[Rule], Rule]:
    """Register how blocks go through ops."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


class HeadWalk:
    """One walk through a graph, which it changes.

    Attributes:
        labels: what is doubled of each value. graph: the graph. integers: what a value holds, where that is known.
    """

    def __init__(
        self,
        graph: ir.Graph,
        shape: Callable[[ir.Value], tuple[Pair, ...]],
        integers: Callable[[ir.Value], list[int] | None],
        seeds: dict[ir.Value, Doubled],
    ) -> None:
        """``shape``: size pairs of a value with one head; ``integers``: what it holds; ``seeds``: weights."""
        self.graph, self.labels, self.integers = graph, dict(seeds), integers
        self._shape, self._own = shape, dict[ir.Value, tuple[Pair, ...]]()
        self.taken = names_in(graph)

    def run(self) -> None:
        """Walk.

        Raises:
            Misfit: names the node.
        """
        for node in list(self.graph):
            held = {slot: self.labels[v] for slot, v in enumerate(node.inputs) if v is not None and v in self.labels}
            if not held:
                continue
            rule = RULES.get(op_key(node))
            try:
                if rule is None:
                    raise Misfit("is not known to take a second head")
                rule(self, node, held)
            except Misfit as misfit:
                raise Misfit(f"{node.op_type} (node '{node.name}') {misfit}") from None

    # -- for the rules -----------------------------------------------------------------------------------------

    def shape(self, value: ir.Value | None) -> tuple[Pair, ...]:
        """Size pairs of a value, one head's."""
        assert value is not None
        return self._own[value] if value in self._own else self._shape(value)

    def put(self, value: ir.Value, label: Doubled | None) -> None:
        """Say what is doubled of a value."""
        if label is not None:
            self.labels[value] = label

    def take(self, node: ir.Node, value: ir.Value, sizes: Sequence[Pair], label: Doubled) -> None:
        """Say what is doubled of a value that takes the place of what ``node`` makes."""
        if node.outputs[0].is_graph_output():
            raise Misfit("shows a head in an output that has no axis for heads")
        self._own[value] = tuple(sizes)
        self.labels[value] = label

    def opener(self, node: ir.Node) -> Site:
        """A maker of nodes in front of ``node``."""
        return Site(self.graph, node, self.taken)

    def ints(self, node: ir.Node, slot: int, label: str, numbers: Sequence[int]) -> None:
        """Let an input of ``node`` be these numbers."""
        node.replace_input_with(slot, self.opener(node).constant(np.array(numbers, np.int64), label))

    def demand(self, value: ir.Value, label: Doubled) -> None:
        """Label a value that must be doubled as what it meets is: a weight, or an input of the graph.

        Raises:
            Misfit: it is computed in a way that is not followed back.
        """
        if self.labels.get(value, label) != label:
            raise Misfit(f"reads '{value.name}', which is doubled in another way")
        if value in self.labels:
            return
        node = value.producer()
        if node is not None and (not passes_on(node, IN_PLACE) or node.inputs[0] is None):
            raise Misfit(f"reads '{value.name}', which would have one head where the others have two")
        if node is not None and node.inputs[0] is not None:
            self.demand(node.inputs[0], label)
        self.labels[value] = label

    def repeated(self, site: Site, value: ir.Value, label: Doubled, heads: int) -> ir.Value:
        """``[…, 2, a, b]`` as ``[…, heads, a, b]``, each head as often as its group has query heads."""
        sizes, place = self.shape(value), label.axis
        if label.blocks != _ONE or label.grouped or label.folded or sizes[place] != UNIT or place + 1 >= len(sizes):
            raise Misfit("meets query heads where the key's or value's head has no axis of its own")
        if heads % COPIES:
            raise Misfit(f"meets {heads} heads")
        ones = [1] * (len(sizes) + 1)
        ones[place + 1] = heads // COPIES
        wide = self.unsqueezed(site, value, place + 1)
        wide = site.op("Expand", wide, site.constant(np.array(ones, np.int64), "group"))
        target = [*sizes[:place], (heads, heads), *sizes[place + 1 :]]
        return self.reshaped(site, wide, [*sizes[: place + 1], UNIT, *sizes[place + 1 :]], target)

    def repeat(self, node: ir.Node, slot: int, label: Doubled, heads: int) -> None:
        """Let an input of ``node`` have each head as often as its group has query heads."""
        value = node.inputs[slot]
        assert value is not None
        node.replace_input_with(slot, self.repeated(self.opener(node), value, label, heads))

    def told(self, node: ir.Node, slot: int, attribute: str) -> list[int] | None:
        """Integers that an op is told, as an input or as an attribute; None: they are computed, or left out."""
        if attribute in node.attributes:
            return list(node.attributes[attribute].as_ints())
        value = node.inputs[slot] if slot < len(node.inputs) else None
        return None if value is None else self.integers(value)

    def unsqueezed(self, site: Site, value: ir.Value, axis: int) -> ir.Value:
        """``value`` with one more axis."""
        if site.opset < 13:
            return site.op("Unsqueeze", value, attributes={"axes": [axis]})
        return site.op("Unsqueeze", value, site.constant(np.array([axis], np.int64), "axes"))

    def reshaped(self, site: Site, value: ir.Value, before: Sequence[Pair], after: Sequence[Pair]) -> ir.Value:
        """``value`` in another shape."""
        return site.op("Reshape", value, site.constant(np.array(numbers(before, after), np.int64), "shape"))

    def unfolds(self, value: ir.Value, label: Doubled, axis: int) -> bool:
        """Whether activations hold both heads in their channels, and have an axis of size 1 that is for the heads."""
        sizes = self.shape(value)
        inside = label.blocks == ((0, sizes[label.axis][0]),) and sizes[label.axis] != UNIT and not label.folded
        return inside and 0 <= axis < label.axis and sizes[axis] == UNIT and _is_computed(value)

    def unfold(self, node: ir.Node, slot: int, axis: int) -> Doubled:
        """Move the heads in an input of ``node`` from its channels to the axis for them."""
        value = node.inputs[slot]
        assert value is not None
        site, sizes, place = self.opener(node), list(self.shape(value)), self.labels[value].axis
        width = sizes[place][0]
        split = [*sizes[:place], (COPIES, COPIES), (width, width), *sizes[place + 1 :]]
        wide = [*sizes[:place], (COPIES * width, COPIES * width), *sizes[place + 1 :]]
        order = [n for n in range(len(split)) if n not in (axis, place)]
        order.insert(axis, place)
        turned = site.op("Transpose", self.reshaped(site, value, wide, split), attributes={"perm": [*order, axis]})
        target = [(COPIES, COPIES) if n == axis else size for n, size in enumerate(sizes)]
        result = self.reshaped(site, turned, [*target, UNIT], target)
        node.replace_input_with(slot, result)
        self._own[result] = tuple(sizes)
        self.labels[result] = Doubled(axis)
        return self.labels[result]


def _is_computed(value: ir.Value) -> bool:
    """Whether a value is no weight, nor another form of one."""
    found = behind_views(value)
    return value.const_value is None and (found is None or found.const_value is None)


def numbers(before: Sequence[Pair], after: Sequence[Pair]) -> list[int]:
    """What a Reshape is told: sizes that are set at run time are copied from the same place, or one of them is left.

    Raises:
        Misfit: more than one is left.
    """
    found = []
    for place, (first, second) in enumerate(after):
        copied = place < len(before) and before[place] == (first, second)
        found.append(first if first == second else 0 if copied else -1)
    if found.count(-1) > 1:
        raise Misfit("reshapes more than one axis that is set at run time")
    return found


def regrouped(before: Sequence[Pair], after: Sequence[Pair], label: Doubled) -> Doubled | None:
    """Where the blocks lie after a Reshape: on the slowest of the axes that theirs is split into; None: nowhere."""
    lead = times(before[: label.axis])
    size = before[label.axis][0]
    for place in range(len(after)):
        if times(after[:place]) != lead:
            continue
        inner: Pair = UNIT
        for end in range(place, len(after)):
            inner = times([inner, after[end]])
            if inner == (size, size):
                stride = prod(n for n, _ in after[place + 1 : end + 1])
                if any(start % stride or length % stride for start, length in label.blocks):
                    break
                blocks = tuple((start // stride, length // stride) for start, length in label.blocks)
                return Doubled(place, blocks)
        following = before[label.axis + 1][0] if label.axis + 1 < len(before) else 0
        if size * following == after[place][0] == after[place][1]:
            return Doubled(place, tuple((start * following, length * following) for start, length in label.blocks))
    return None

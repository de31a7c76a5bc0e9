"""What a cut of the vocabulary asks of a graph: ids of tokens that it names, ops that would mix tokens.

The tokens that stay keep their order, so that their new ids rise as the old ones did. So a comparison of ids with a
constant can be said in new ids, and whatever else computes with ids cannot: it is refused by name.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._ops import (
    Axes,
    Calc,
    Move,
    Slot,
    computes,
    data_slots,
    is_linear,
    is_sum,
    measures,
    passes_on,
    record,
    slot_of,
    works_place_by_place,
)
from bot_onnx._ops.walk import backward, forward
from bot_onnx._surgery.edits import SetToken, made_by
from bot_onnx.errors import GraphError

_IDS: Final = ~(Move.PADDED | Move.RESIZED | Move.UNPACKED)  #: moves behind which ids are ids
_MERGING: Final = Move.JOINED | Move.CHOSEN
_REASON: Final = "id of a token"


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Where a graph meets the tokens.

    Attributes:
        inputs: names of the graph inputs that hold ids of them. outputs: of the outputs that do.
        edits: ids in the graph that become others.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    edits: tuple[SetToken, ...] = ()


def token_use(analysis: Analysis, tokens: tuple[int, ...], vocabularies: Mapping[str, int]) -> TokenUse:
    """Find out what becomes of the ids of tokens in a graph.

    Args:
        analysis: of the graph.
        tokens: ids that stay, in order. vocabularies: source size by id of the dims that count them.

    Returns:
        Inputs and edits; nothing where no token goes.

    Raises:
        GraphError: the graph names a token that goes, computes with ids, or with a sum over all tokens.
    """
    if not tokens:
        return TokenUse()
    walk = _Walk(analysis, tokens, vocabularies)
    walk.refuse_mixing()
    walk.follow()
    return TokenUse(tuple(walk.inputs), tuple(walk.outputs), tuple(walk.edits))


@dataclass(slots=True)
class _Walk:
    analysis: Analysis
    tokens: tuple[int, ...]
    vocabularies: Mapping[str, int]
    inputs: dict[str, None] = field(default_factory=dict)
    outputs: dict[str, None] = field(default_factory=dict)
    edits: list[SetToken] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Tokens of the source."""
        return max(self.vocabularies.values())

    def counts(self, value: ir.Value | None, axis: int) -> bool:
        """Whether an axis of a value goes over the tokens."""
        dims = () if value is None else self.analysis.context.axes_of(value)
        if not -len(dims) <= axis < len(dims) or (dim := dims[axis]) is None:
            return False
        return self.analysis.ids.get(self.analysis.context.table.find(dim)) in self.vocabularies

    def axes(self, value: ir.Value | None) -> list[int]:
        """Axes of a value that go over the tokens."""
        dims = () if value is None else self.analysis.context.axes_of(value)
        return [axis for axis in range(len(dims)) if self.counts(value, axis)]

    # -- what is made over all tokens ----------------------------------------------------------------------------------

    def refuse_mixing(self) -> None:
        """Refuse ops whose results for one token depend on the others."""
        for node in self.analysis.model.graph:
            if self._apart(node) or not any(map(self.axes, node.inputs)):
                continue
            raise GraphError(
                f"{_place(node)} computes over all tokens at once, so that what goes changes what stays: give the "
                "model without it (one that ends in the logits), or cut no vocabulary"
            )

    def _apart(self, node: ir.Node) -> bool:
        op = record(node)
        if op.distribution or op.norm is not None:
            return False
        moved = passes_on(node, ~(Move.PADDED | Move.RESIZED))
        return moved or is_linear(node) or measures(node) or works_place_by_place(op)

    # -- where ids go --------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Follow ids from the lookups back to where they come from, and from there to all that reads them."""
        graph = self.analysis.model.graph
        looked_up = [node.inputs[1] for node in graph if self._looks_up(node, 1)]
        sources = [value for value in backward(looked_up, self._hands_on, _data) if not self._passed(value)]
        for value in sources:
            if (maker := value.producer()) is not None:
                raise GraphError(f"{_place(maker)} makes ids of tokens, of which it is not known how they follow a cut")
            if value.const_value is None:
                self.inputs[value.name or ""] = None
        given = [value for value in sources if value.const_value is None]
        met = dict.fromkeys(forward(given, lambda node, slot: self._carries(node, slot)))
        for value in met:
            if value.is_graph_output():
                self.outputs[value.name or ""] = None
            for node, slot in value.uses():
                self._meets(node, slot, met)

    def _hands_on(self, node: ir.Node) -> bool:
        return passes_on(node, _IDS) or self._wraps(node) or computes(node, Calc.EXTREME)

    def _passed(self, value: ir.Value) -> bool:
        maker = value.producer()
        return maker is not None and self._hands_on(maker)

    def _carries(self, node: ir.Node, slot: int) -> bool:
        if self._looks_up(node, slot):
            return False
        data = slot in data_slots(node) or self._wraps(node)
        return data and self._hands_on(node) and not _to_bool(node)

    def _wraps(self, node: ir.Node) -> bool:
        """Whether the number of tokens is added, so that negative ids count from the end."""
        return is_sum(node) and any(
            (numbers := _whole(value)) is not None and numbers.size == 1 and int(numbers.flat[0]) == self.rows
            for value in node.inputs
        )

    def _looks_up(self, node: ir.Node, slot: int) -> bool:
        """Whether an input of a node picks tokens."""
        if slot_of(node, slot) is not Slot.INDEX or not passes_on(node, Move.PICKED | Move.SHUFFLED):
            return False
        return self.counts(node.inputs[0], node.attributes.get_int("axis", 0))

    def _meets(self, node: ir.Node, slot: int, met: Iterable[ir.Value]) -> None:
        """What a node does with ids."""
        if self._looks_up(node, slot) or measures(node):
            return
        others = [(other, value) for other, value in enumerate(node.inputs) if other != slot and value is not None]
        if computes(node, Calc.EQUALITY) or computes(node, Calc.ORDER):
            self._compared(node, slot, others, met)
        elif computes(node, Calc.EXTREME):
            self._bounded(node, others)
        elif _to_bool(node):
            if self.tokens[0] != 0:
                raise self._lost(node, 0)
        elif self._carries(node, slot):
            if passes_on(node, _IDS & _MERGING):
                self._merged(node, others, met)
        elif not _finds(node):  # the order of ids stays, and with it the place of the largest
            raise GraphError(
                f"{_place(node)} computes with ids of tokens, and they are others after a cut: give a model that "
                "looks them up and compares them alone, or cut no vocabulary"
            )

    def _merged(self, node: ir.Node, others: Iterable[tuple[int, ir.Value]], met: Iterable[ir.Value]) -> None:
        for other, value in others:
            if other not in data_slots(node) or value in met:
                continue
            numbers = _whole(value)
            if numbers is None:
                raise GraphError(
                    f"{_place(node)} puts {value.name!r} beside ids of tokens: whether it is one is unknown"
                )
            self._exchange(node, other, numbers, self._equal)

    def _compared(
        self, node: ir.Node, slot: int, others: Iterable[tuple[int, ir.Value]], met: Iterable[ir.Value]
    ) -> None:
        for other, value in others:
            if value in met or self.axes(value):  # one with another, or with all of them in a row
                continue
            numbers = _whole(value)
            if numbers is None:
                raise GraphError(f"{_place(node)} compares ids of tokens with {value.name!r}, which is computed")
            self._exchange(
                node, other, numbers, self._equal if computes(node, Calc.EQUALITY) else self._bound(node, slot)
            )

    def _bounded(self, node: ir.Node, others: Iterable[tuple[int, ir.Value]]) -> None:
        """Bounds that hold no id back stay."""
        for _, value in others:
            numbers = _whole(value)
            if numbers is None or any(0 < int(number) < self.rows - 1 for number in numbers.flat):
                raise GraphError(f"{_place(node)} holds ids of tokens within bounds that are ids themselves")

    # -- new ids -------------------------------------------------------------------------------------------------------

    def _exchange(
        self, node: ir.Node, slot: int, numbers: NDArray[np.generic], new: Callable[[ir.Node, int], int]
    ) -> None:
        for index, number in enumerate(numbers.flat):
            old = int(number)
            after = new(node, old)
            if after != old:
                made = made_by(node)
                self.edits.append(SetToken(f"{_place(node)} input {slot}", old, after, _REASON, made, slot, index))

    def _equal(self, node: ir.Node, old: int) -> int:
        if not 0 <= old < self.rows:  # no token: a mark that some datasets have
            return old
        place = bisect_left(self.tokens, old)
        if place == len(self.tokens) or self.tokens[place] != old:
            raise self._lost(node, old)
        return place

    def _bound(self, node: ir.Node, slot: int) -> Callable[[ir.Node, int], int]:
        """How the number follows that a node, by which of two is larger, compares ids in ``slot`` with."""
        order = record(node).whole
        if order is None:
            raise GraphError(f"{_place(node)} compares ids of tokens in a way that is not known")
        whether_below, itself = bool(order(0, 1)), bool(order(0, 0))
        above = whether_below == itself  # x <= c, x > c: c counts with what is below it
        return self._above if above == (slot == 0) else self._below

    def _below(self, _: ir.Node, old: int) -> int:
        """The number at or above which the same ids are: those of ``old`` and more."""
        return bisect_left(self.tokens, old) if 0 <= old < self.rows else old

    def _above(self, _: ir.Node, old: int) -> int:
        """The number above which the same ids are: those above ``old``."""
        return bisect_right(self.tokens, old) - 1 if 0 <= old < self.rows else old

    def _lost(self, node: ir.Node, token: int) -> GraphError:
        return GraphError(
            f"{_place(node)} names token {token}, which does not stay: keep it as well (--vocab-keep "
            "takes ids, also beside --vocab-from)"
        )


def in_new_ids(given: Given, inputs: Iterable[str], tokens: Sequence[int]) -> Given:
    """Arrays that were given for a source, for the model whose vocabulary is cut.

    Args:
        given: arrays by input. inputs: names of those that hold ids of tokens.
        tokens: ids that stay, in order.

    Raises:
        GraphError: one of them holds a token that does not stay.
    """
    kept, made = np.asarray(tokens), dict(given.arrays)
    for name in made.keys() & set(inputs):
        array = np.asarray(made[name])
        places = np.minimum(np.searchsorted(kept, array), len(kept) - 1)
        gone = array[kept[places] != array]
        if gone.size:
            raise GraphError(f"the array given for {name!r} holds token {gone.flat[0]}, which does not stay: keep it")
        made[name] = places.astype(array.dtype)
    return replace(given, arrays=made)


def _data(node: ir.Node) -> Iterator[ir.Value | None]:
    if is_sum(node):
        return iter(node.inputs)
    return (node.inputs[slot] for slot in data_slots(node) if slot < len(node.inputs))


def _whole(value: ir.Value | None) -> NDArray[np.generic] | None:
    """The numbers of a constant of integers."""
    tensor = None if value is None else value.const_value
    numbers = None if tensor is None else tensor.numpy()
    return numbers if numbers is not None and numbers.dtype.kind in "iu" else None


def _to_bool(node: ir.Node) -> bool:
    return passes_on(node, Move.CAST) and node.attributes.get_int("to", 0) == ir.DataType.BOOL


def _finds(node: ir.Node) -> bool:
    """Whether a node gives the place of an element along an axis, by its size."""
    op = record(node)
    return op.chooses is not None and op.axes is Axes.REDUCED


def _place(node: ir.Node) -> str:
    return f"node {node.name or made_by(node)!r} ({node.op_type})"

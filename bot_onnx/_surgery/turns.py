"""Whether a layer can stand at another's place: it must read the same from outside, and hold the same fixed numbers.

Only the weights of a layer move: the graph's layers stay in their order, with the masks and tables that each of them
reads from outside, and with numbers that follow the place (see :mod:`bot_onnx._patterns.layer_numbers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._patterns.alternating_layers import turn_length
from bot_onnx._patterns.layer_numbers import Law, continued, placed_numbers
from bot_onnx._patterns.layers import Layer, LayerChain
from bot_onnx._structure import Chain
from bot_onnx._target.messages import listing
from bot_onnx.errors import SpecError


class Turns:
    """Which layers of a chain may give their weights to which place of the target."""

    def __init__(self, analysis: Analysis, chain: LayerChain) -> None:
        self._layers = chain.layers
        self._turn = turn_length(chain) or 1
        self._moving = {name for stack in analysis.structure.stacks for name in stack.tensors}

    def template(self, place: int) -> int:
        """The layer of the source whose nodes stand at a place: added ones are copies, turn by turn, of the last."""
        count = len(self._layers)
        return place if place < count else count - self._turn + (place - count) % self._turn

    def allow(self, layer: int, place: int) -> bool:
        """Whether the weights of a layer mean at a place what they meant."""
        return self.obstacle(layer, place) is None

    def obstacle(self, layer: int, place: int) -> str | None:
        """What is another there, in words."""
        there = self.template(place)
        if layer == there:
            return None
        mine, theirs = self._layers[layer], self._layers[there]
        for own, other in zip(mine.outside, theirs.outside, strict=True):
            if own is not other:
                return f"reads '{own.name}' from outside, the layer at that place '{other.name}'"
        return self._number(mine, theirs)

    def _number(self, mine: Layer, theirs: Layer) -> str | None:
        for own, other in zip(mine.nodes, theirs.nodes, strict=True):
            for left, right in zip(own.inputs, other.inputs, strict=True):
                if left is not None and right is not None and not self._same(left, right):
                    return f"holds another number ('{left.name}') than the layer at that place ('{right.name}')"
        return None

    def _same(self, left: ir.Value, right: ir.Value) -> bool:
        """Whether two inputs are alike, as far as they are numbers of the graph that do not move with the weights."""
        if left is right or left.const_value is None or right.const_value is None or left.name in self._moving:
            return True
        return np.array_equal(left.const_value.numpy(), right.const_value.numpy(), equal_nan=False)


def check_turns(analysis: Analysis, chain: LayerChain, info: Chain, picks: Sequence[int]) -> None:
    """Refuse a choice of layers of which one would stand where another's turn is.

    Args:
        analysis: of the source.
        chain, info: the chain.
        picks: the source's layer for every layer of the target, leading ones included.

    Raises:
        SpecError: names the layer, its place, and which layers could stand there.
    """
    turns = Turns(analysis, chain)
    for place, layer in enumerate(picks[info.leading :]):
        why = turns.obstacle(layer - info.leading, place)
        if why is not None:
            fitting = [n + info.leading for n in range(len(chain.layers)) if turns.allow(n, place)]
            raise SpecError(
                f"key 'layers': layer {layer} of chain '{info.name}' cannot be layer {place + info.leading}: it {why}. "
                f"There: {', '.join(map(str, fitting)) or 'none'}."
            )


def notes_of_places(analysis: Analysis, layers: Mapping[str, int]) -> list[str]:
    """What of the layers does not move with their weights, in sentences, for the chains whose depth changes.

    Args:
        analysis: of the source.
        layers: new depth per chain name.
    """
    notes = []
    for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True):
        added = range(len(chain.layers), layers[info.name] - info.leading)
        for values, numbers, law in placed_numbers(chain) if layers[info.name] != info.count else ():
            told = f"'{values[0].name}' and its like follow the place of the layer in {info.name}"
            stay = "stay there, whichever layer's weights come to stand beside them"
            notes.append(f"{told}, by a formula or in turns, and {stay}{_of_added(numbers, law, added)}.")
    return notes


def _of_added(numbers: NDArray[np.float64], law: Law, added: range) -> str:
    """What the layers that are added have of numbers that follow the place."""
    found = [continued(numbers, law, place) for place in added]
    if not found:
        return ""
    given = [f"{number:.6g}" for number in found if number is not None]
    last = "" if len(given) == len(found) else "what would be 0 or beyond is the number of the layer that is repeated"
    going = f"added layers go on with {listing(given, 4)}" if given else ""
    return "; " + "; ".join(part for part in (going, last) if part)

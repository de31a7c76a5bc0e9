"""Choosing heads and neurons by the norms of the maps around them; see :mod:`bot_onnx._align.selection`."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx._align.folding import Folding
from bot_onnx._align.mobility import Mobility
from bot_onnx._align.permutable_dims import Freedom
from bot_onnx._align.selection import choose, chosen_leaves, find_choices
from bot_onnx._align.types import Kept, Progress, Tensors
from bot_onnx._structure import Structure


class HeadsAndNeurons:
    """What a resize lets choose from, layer by layer.

    Attributes:
        sizes: target size of every leaf that is chosen from. notes: on what is left to the resampling method.
    """

    def __init__(self, structure: Structure, sizes: Mapping[str, int], freedom: Freedom) -> None:
        self._structure, self._sizes = structure, sizes
        self._mobile = Mobility(structure, sizes, freedom)
        self._choices, notes = find_choices(structure, self._mobile)
        self.sizes = {leaf: sizes[leaf] for leaf in chosen_leaves(self._choices, self._mobile)}
        self.notes = tuple(notes)
        self._layers = {chain.name: chain.stacked for chain in structure.chains}

    @property
    def steps(self) -> int:
        """How many times :meth:`keep` calls back."""
        return sum(self._layers[choice.chain] for choice in self._choices)

    def keep(self, folding: Folding, tensors: Tensors, progress: Progress | None, done: int, steps: int) -> Kept:
        """Per chain and layer, the indices that stay of every leaf.

        Args:
            folding: by whose folded weights worth is measured.
            tensors: the source's.
            progress: called with (what is being done, steps done, steps in all), from ``done`` on.
            done, steps: of the whole work.
        """
        kept = Kept({name: [{} for _ in range(count)] for name, count in self._layers.items()})
        for choice in self._choices:
            for layer in range(self._layers[choice.chain]):
                found = choose(self._structure, self._mobile, choice, layer, folding, tensors, self._sizes)
                kept.layers[choice.chain][layer].update(found)
                done += 1
                if progress is not None:
                    progress("choosing heads and neurons", done, steps)
        return kept

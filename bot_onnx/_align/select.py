"""Selecting: of heads and neurons that shrink, the most valuable stay as they are; nothing else is touched.

What ``rotate`` does inside the layers, for networks whose stream cannot be turned; see
:mod:`bot_onnx._align.selection` for what a head and a neuron are worth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bot_onnx._align.axes import ordered, resized
from bot_onnx._align.folding import Folding
from bot_onnx._align.gram import sum_of_squares
from bot_onnx._align.keep import ChosenUnits
from bot_onnx._align.mobility import Mobility
from bot_onnx._align.permutable_dims import Freedom
from bot_onnx._align.places import Namespace
from bot_onnx._align.refit import Refitting
from bot_onnx._align.selection import choose, chosen_leaves, find_choices
from bot_onnx._align.stream import Stream
from bot_onnx._align.types import Aligned, Alignment, AnyArray, Facts, Kept, Kind, Progress, Tensors
from bot_onnx._structure import Structure
from bot_onnx._target import Criterion, Refit


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


def chooser(
    structure: Structure, sizes: Mapping[str, int], facts: Facts, criterion: Criterion, *, everywhere: bool
) -> HeadsAndNeurons | ChosenUnits:
    """What chooses by a criterion.

    Args:
        structure: of the source. sizes: target size per dim id. facts: of its graph.
        criterion: ``energy`` is worth as :mod:`bot_onnx._align.selection` has it, of heads and neurons.
        everywhere: with another criterion, choose channels outside the layers as well.
    """
    if criterion == "energy":
        return HeadsAndNeurons(structure, sizes, facts.freedom)
    return ChosenUnits(structure, sizes, facts, criterion, everywhere=everywhere)


def refitting(
    refit: Refit | None, structure: Structure, chosen: HeadsAndNeurons | ChosenUnits, facts: Facts
) -> Refitting | None:
    """What makes up for what goes, where that is asked for and something is chosen."""
    return None if refit is None or not chosen.sizes else Refitting(refit, structure, chosen.sizes, facts)


class Selection(Alignment):
    """Keep the most valuable heads and neurons; where a criterion is asked for, channels too."""

    kind: Kind = "select"

    def __init__(
        self,
        structure: Structure,
        sizes: Mapping[str, int],
        facts: Facts,
        criterion: Criterion = "energy",
        notes: tuple[str, ...] = (),
        refit: Refit | None = None,
    ) -> None:
        self._source = structure
        self._biases = facts.readings.biases()
        self._inner = chooser(structure, sizes, facts, criterion, everywhere=True)
        self._refitting = refitting(refit, structure, self._inner, facts)
        self.structure = resized(structure, self._inner.sizes)
        self.notes = (*notes, *self._inner.notes)
        if self._refitting is not None:
            self.refitted = self._refitting.names
            self.notes += self._refitting.notes

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose from."""
        return bool(self._inner.sizes)

    def align(self, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Aligned:
        """Find out what stays. Memory: one tensor; see :meth:`Refitting.tensors` for more where that is asked for."""
        folding = Folding(self._source, Stream(""), self._biases)
        kept = self._inner.keep(folding, tensors, progress, 0, self._inner.steps)
        if self._refitting is not None:
            tensors = self._refitting.tensors(tensors, kept)
        return _Selected(self._source, tensors, folding, kept)


class _Selected(Aligned):
    def __init__(self, structure: Structure, tensors: Tensors, folding: Folding, kept: Kept) -> None:
        self._structure, self._tensors, self._folding, self._kept = structure, tensors, folding, kept

    def read(self, name: str) -> AnyArray:
        """One tensor, only what is kept of its heads and neurons."""
        array = self._tensors[name].numpy()
        if name not in self._folding.places:
            return array
        stack, layer = self._folding.places[name]
        return ordered(self._structure, stack, array, self._kept.of(stack, layer))

    def whole_energy(self, name: str) -> float:
        """Sum of squares of the whole tensor."""
        return sum_of_squares(self._tensors[name].numpy())

    def whole(self, name: str) -> AnyArray:
        """The tensor, chosen from only where the choice depends on another leaf."""
        array = self._tensors[name].numpy()
        if name not in self._folding.places:
            return array
        stack, layer = self._folding.places[name]
        return ordered(self._structure, stack, array, self._kept.bound(stack, layer))

    def cut(self, name: str, axis: int, leaf: str) -> AnyArray | None:
        """Indices of the leaf that stay."""
        if name not in self._folding.places:
            return None
        return self._kept.free(*self._folding.places[name], leaf)

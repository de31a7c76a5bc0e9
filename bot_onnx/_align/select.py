"""Selecting: of heads and neurons that shrink, the most valuable stay as they are; nothing else is touched.

What ``rotate`` does inside the layers, for networks whose stream cannot be turned; see
:mod:`bot_onnx._align.selection` for what a head and a neuron are worth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bot_onnx._align.axes import ordered, resized
from bot_onnx._align.choosing import Choosing, chosen
from bot_onnx._align.folding import Folding
from bot_onnx._align.gram import sum_of_squares
from bot_onnx._align.places import Namespace
from bot_onnx._align.stream import Stream
from bot_onnx._align.types import Aligned, Alignment, AnyArray, Facts, Kept, Kind, Progress, Tensors
from bot_onnx._structure import Structure


class Selection(Alignment):
    """Keep the most valuable heads and neurons; by another criterion than their norms, channels too."""

    kind: Kind = "select"

    def __init__(
        self,
        structure: Structure,
        sizes: Mapping[str, int],
        facts: Facts,
        choosing: Choosing,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._source = structure
        self._biases = facts.readings.biases()
        self._chosen = chosen(structure, sizes, facts, choosing, everywhere=True)
        self.structure = resized(structure, self._chosen.chooser.sizes)
        self.notes = (*notes, *self._chosen.notes)
        self.refit, self.refitted, self.looks = self._chosen.refit, self._chosen.refitted, self._chosen.looks

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose from."""
        return bool(self._chosen.chooser.sizes)

    def align(self, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Aligned:
        """Find out what stays. Memory: one tensor; see :meth:`Refitting.tensors` for more where that is asked for."""
        folding = Folding(self._source, Stream(""), self._biases)
        chooser = self._chosen.chooser
        kept = chooser.keep(folding, tensors, progress, 0, chooser.steps)
        tensors = self._chosen.made_up(tensors, kept)
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

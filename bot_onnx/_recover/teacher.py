"""The teacher's answers: computed when they are asked for, or once for all samples where they are needed again.

Answers are remembered only where every sample has the same shape, all of them fit, and each is needed at least twice.
They are computed in the order of the samples before the first step: an answer depends on its batch in the last bits,
and a run that goes on after a kill must see the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bot_onnx._recover.dataset import Dataset, Indices
from bot_onnx._recover.network import Frozen
from bot_onnx._recover.types import Array, Feeds

MOST_BYTES = 1 << 29  #: of answers that are held


class Teacher:
    """A frozen model that answers for a data set.

    Args:
        model: that answers.
        data: the samples.
        names: of the values that are asked for.
    """

    def __init__(self, model: Frozen, data: Dataset, names: Sequence[str]) -> None:
        self._model, self._data, self._names = model, data, tuple(names)
        self._held: dict[str, Array] = {}
        self._rows: Indices | None = None

    def remember(self, batches: Sequence[Indices]) -> bool:
        """Compute all answers now, if they can be held; whether they are.

        Args:
            batches: indices of the samples, as many at a time as are run together.
        """
        if self._data.lengths is not None or not batches:
            return False
        count = sum(map(len, batches))
        first = self.answers(batches[0])
        size = len(batches[0])
        if any(len(array) != size for array in first.values()):
            return False
        if sum(array.nbytes for array in first.values()) / size * count > MOST_BYTES:
            return False
        held = {name: np.empty((count, *array.shape[1:]), array.dtype) for name, array in first.items()}
        place = 0
        for chosen in batches:
            answers = first if place == 0 else self.answers(chosen)
            for name, array in answers.items():
                held[name][place : place + len(chosen)] = array
            place += len(chosen)
        self._rows = np.full(len(self._data), -1, np.int64)
        self._rows[np.concatenate(batches)] = np.arange(count)
        self._held = held
        return True

    def answers(self, chosen: Indices, feeds: Feeds | None = None) -> Mapping[str, Array]:
        """Values by name for the chosen samples.

        Args:
            chosen: indices.
            feeds: the inputs of these samples, if they are at hand.
        """
        if self._rows is not None and (self._rows[chosen] >= 0).all():
            return {name: array[self._rows[chosen]] for name, array in self._held.items()}
        given = self._data.feeds(chosen) if feeds is None else feeds
        return self._model.run(given, self._data.fixed, self._names)

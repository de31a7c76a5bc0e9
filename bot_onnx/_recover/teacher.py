"""The teacher's answers: computed once for every sample, and kept in memory and on the disk.

A sample is answered alone, without padding, by one thread (several samples at a time), so that its answer depends on
nothing but the sample and the teacher: whoever asks first, an interrupted run, a second run, another student or another
number of threads finds the same bits. Where a model takes a fixed number of samples, as many that follow one another in
the data are answered together.

That the answers may be put together in any batch is tried first, on samples of several lengths. Where it does not hold
(samples are not along the first axis, padding shows where it counts), each batch is answered as a whole and nothing is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bot_onnx._recover.agreement import TOLERANCE
from bot_onnx._recover.answer_store import AnswerStore
from bot_onnx._recover.dataset import Dataset, Indices
from bot_onnx._recover.network import Frozen
from bot_onnx._recover.types import Array, Feeds
from bot_onnx._resample.parallel import processor_count
from bot_onnx._runs.sample_arrays import digest

MOST_BYTES = 1 << 29  #: of answers that are held in memory
_TRIED = 8  # samples on which that is looked at

Answer = Mapping[str, Array]


class Teacher:
    """A frozen model that answers for a data set.

    Args:
        opened: opens the model for a number of threads (0: as many as there are processors).
        data: the samples.
        store: where answers are kept between runs; None: nowhere.
        threads: samples that are answered at a time; 0: as many as there are processors.
        chunk: samples that the model takes at a time; None: any number.
        tolerance: of the largest value, between an answer alone and in a batch.

    Attributes:
        alone: samples are answered one by one.
        device: that answers: ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        opened: Callable[[int], Frozen],
        data: Dataset,
        *,
        store: AnswerStore | None = None,
        threads: int = 0,
        chunk: int | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        self._model, self._data, self._store = opened(1), data, store
        self._tolerance = tolerance
        self.device = self._model.device
        self._group = chunk or 1
        self._workers = threads or processor_count()
        self._held: dict[int, Answer] = {}
        self._bytes = 0
        self._tokens: dict[str, tuple[int, ...]] = {}  # axes of tokens of every value
        self.alone = self._can_be_put_together()
        if not self.alone:
            self._held.clear()
            self._model = opened(threads) if self._workers > 1 else self._model

    def answers(self, chosen: Indices, feeds: Feeds | None = None) -> Answer:
        """Values by name for the chosen samples; zeros at padding.

        Args:
            chosen: indices.
            feeds: the inputs of these samples, if they are at hand.
        """
        given = self._data.feeds(chosen) if feeds is None else feeds
        if not self.alone:
            return self._model.run(given, self._data.fixed)
        return self._put_together(chosen, given)

    def _put_together(self, chosen: Indices, feeds: Feeds) -> Answer:
        found = {int(index): answer for index in chosen if (answer := self._held.get(int(index))) is not None}
        missing = sorted({int(index) // self._group for index in chosen if int(index) not in found})
        for group, answers in zip(missing, self._answer_groups(missing), strict=True):
            for place, answer in enumerate(answers):
                index = group * self._group + place
                found[index] = answer
                self._hold(index, answer)
        longest = self._longest(feeds)
        return {
            name: _stacked([found[int(index)][name] for index in chosen], self._tokens.get(name, ()), longest)
            for name in self._model.outputs
        }

    def _answer_groups(self, groups: Sequence[int]) -> list[list[Answer]]:
        if len(groups) < 2 or self._workers < 2:
            return [self._answer_group(group) for group in groups]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(self._answer_group, groups))

    def _answer_group(self, group: int) -> list[Answer]:
        """Answers of the samples of a group, each ``[1, …]``."""
        start = group * self._group
        members = np.arange(start, start + self._group).clip(max=len(self._data) - 1)
        feeds = self._data.feeds(members)
        count = min(self._group, len(self._data) - start)
        keys = [f"{digest(feeds)}{place}" for place in range(count)]
        kept = [None if self._store is None else self._store.get(key) for key in keys]
        whole = [answer for answer in kept if answer is not None and set(answer) == set(self._model.outputs)]
        if len(whole) == count:
            return list(whole)
        made = self._model.run(feeds, self._data.fixed)
        answers = [{name: array[place : place + 1] for name, array in made.items()} for place in range(count)]
        for key, answer in zip(keys, answers, strict=True):
            if self._store is not None:
                self._store.put(key, answer)
        return list(answers)

    def _hold(self, index: int, answer: Answer) -> None:
        size = sum(array.nbytes for array in answer.values())
        if self._bytes + size <= MOST_BYTES and index not in self._held:
            self._held[index] = answer
            self._bytes += size

    def _longest(self, feeds: Feeds) -> int:
        return feeds[self._data.padded[0]].shape[1] if self._data.padded else 0

    def _can_be_put_together(self) -> bool:
        """Whether answers of samples alone are those in a batch; finds the axes of tokens."""
        chosen = self._tried()
        feeds = self._data.feeds(chosen)
        wanted = self._model.run(feeds, self._data.fixed)
        longest = self._longest(feeds)
        if any(array.ndim == 0 or len(array) != len(chosen) for array in wanted.values()):
            return False
        if longest and self._group > 1:
            return False
        if longest:
            short = self._model.run(self._data.feeds(chosen[:1]), self._data.fixed)
            for name, array in wanted.items():
                sizes = enumerate(zip(array.shape, short[name].shape, strict=True))
                self._tokens[name] = tuple(axis for axis, (full, own) in sizes if axis and full != own)
        try:
            found = self._put_together(chosen, feeds)
        except ValueError:  # an axis is neither a sample's own nor as long as its tokens
            return False
        mask = feeds[self._data.mask] if self._data.mask is not None else None
        return all(_equal(found[name], wanted[name], mask, self._tolerance) for name in wanted)

    def _tried(self) -> Indices:
        """A few samples, shortest and longest among them, as many as make whole chunks."""
        count = -(-_TRIED // self._group) * self._group
        lengths = self._data.lengths
        order = np.arange(len(self._data)) if lengths is None else np.argsort(lengths, kind="stable")
        places = np.linspace(0, len(order) - 1, count).astype(np.int64)
        return order[places].astype(np.int64)


def _stacked(answers: Sequence[Array], tokens: Sequence[int], longest: int) -> Array:
    """``[samples, …]`` of answers ``[1, …]``, zeros behind what is shorter than the longest."""
    if not tokens:
        return np.concatenate(answers)
    shape = list(answers[0].shape)
    for axis in tokens:
        shape[axis] = longest
    made = np.zeros((len(answers), *shape[1:]), answers[0].dtype)
    for row, answer in zip(made, answers, strict=True):
        row[tuple(slice(0, size) for size in answer.shape[1:])] = answer[0]
    return made


def _equal(found: Array, wanted: Array, mask: Array | None, tolerance: float) -> bool:
    """Whether two arrays agree wherever it counts (as losses and measures see it)."""
    if found.shape != wanted.shape:
        return False
    if mask is not None and wanted.ndim > 2 and wanted.shape[:2] == mask.shape:
        found, wanted = found[mask > 0], wanted[mask > 0]
    scale = float(np.abs(wanted).max(initial=0.0))
    return bool((np.abs(found.astype(np.float64) - wanted) <= tolerance * scale + 1e-12).all())

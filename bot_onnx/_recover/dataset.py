"""Samples to learn from, held as arrays: how they are cut into batches, split, ordered and told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._recover.rows import Rows, digest_rows
from bot_onnx._recover.types import Array, Feeds
from bot_onnx._runs.sample_arrays import digest
from bot_onnx.errors import RecoverError

Indices = NDArray[np.int64]
FEWEST = 8  # samples, of which two are held out
MOST_HELD_OUT = 1024
POOL = 32  #: batches that are sorted by length together


@dataclass(frozen=True, slots=True)
class Dataset:
    """Inputs of a model for a number of samples.

    Attributes:
        arrays: ``[samples, …]`` by input, in memory or not (:mod:`bot_onnx._recover.rows`).
        constant: inputs that are the same for all samples.
        lengths: ``[samples]`` number of tokens, where inputs are padded.
        padded: names of inputs ``[samples, tokens]`` that are cut to the longest sample of a batch.
        mask: name of the input that is 1 where a token counts, or None.
        finish: makes inputs of what the arrays hold (numbers of pixels, a batch at a time); None: they are the inputs.
        notes: what was found while reading, in sentences.
        told: how what the arrays hold is made to inputs, for the metadata of what learns from it.
    """

    arrays: Mapping[str, Rows]
    constant: Mapping[str, Array] = field(default_factory=dict)
    lengths: Indices | None = None
    padded: tuple[str, ...] = ()
    mask: str | None = None
    finish: Callable[[Feeds], Feeds] | None = None
    notes: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of samples."""
        return len(next(iter(self.arrays.values())))

    @property
    def fixed(self) -> frozenset[str]:
        """Names of the inputs that are the same for all samples."""
        return frozenset(self.constant)

    def feeds(self, chosen: Indices, among: Indices | None = None) -> Feeds:
        """Inputs of the chosen samples, without padding that all of them have.

        Args:
            chosen: indices.
            among: of a batch that these are a share of: they are padded as all of it; None: the chosen are all.
        """
        if among is not None and len(among) > len(chosen) and self.lengths is not None and self.padded:
            longest = among[self.lengths[among].argmax()]  # goes along, and is left out again
            made = self.feeds(np.append(chosen, longest))
            return {name: array if name in self.constant else array[:-1] for name, array in made.items()}
        made = {name: array[chosen] for name, array in self.arrays.items()}
        if self.lengths is not None and self.padded:
            longest = int(self.lengths[chosen].max())
            made |= {name: made[name][:, :longest] for name in self.padded}
        made |= self.constant
        return made if self.finish is None else self.finish(made)

    def digest(self) -> str:
        """SHA-256 of all of it."""
        plain = {name: rows for name, rows in self.arrays.items() if isinstance(rows, np.ndarray)}
        whole = digest({**plain, **self.constant})
        if len(plain) == len(self.arrays):
            return whole
        return digest_rows({name: rows for name, rows in self.arrays.items() if name not in plain}) + whole


def split(count: int, part: float, seed: int) -> tuple[Indices, Indices]:
    """Indices to train on, and indices that are held out (at least 2, at most :data:`MOST_HELD_OUT`).

    Raises:
        RecoverError: there are too few samples.
    """
    if count < FEWEST:
        raise RecoverError(
            f"the data hold {count} samples; at least {FEWEST} are needed to train on and to measure with"
        )
    order = np.random.default_rng([seed, 0]).permutation(count).astype(np.int64)
    held = min(max(2, round(count * part)), MOST_HELD_OUT, count - 2)
    return np.sort(order[held:]), np.sort(order[:held])


class Batches:
    """The samples of every step: each epoch goes through all of them, in an order of its own.

    Where samples have lengths, those of similar length come together, so that little of a batch is padding: an epoch's
    order is cut into pools of some batches, and each pool is sorted before it is cut into its batches, whose order is
    drawn again.

    Args:
        training: indices of the samples.
        batch: samples a step.
        seed: of the orders.
        chunk: the batch must be a multiple of this, where it is given.
        lengths: of all samples, or None.
    """

    def __init__(self, training: Indices, batch: int, seed: int, chunk: int | None, lengths: Indices | None) -> None:
        size = min(batch, len(training))
        self._size = size if chunk is None else max(chunk, size // chunk * chunk)
        self._training, self._seed, self._lengths = training, seed, lengths
        self._epoch: tuple[int, list[Indices]] = (-1, [])

    def at(self, step: int) -> Indices:
        """Indices of the samples of one step."""
        epoch, place = divmod(step, len(self._training) // self._size)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._cut(epoch)
        return self._epoch[1][place]

    def _cut(self, epoch: int) -> list[Indices]:
        rng = np.random.default_rng([self._seed, 1, epoch])
        order = rng.permutation(self._training)
        if self._lengths is not None:
            pool = self._size * POOL
            pools = [order[start : start + pool] for start in range(0, len(order), pool)]
            order = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in pools])
        count = len(order) // self._size
        batches = [np.sort(order[place * self._size : (place + 1) * self._size]) for place in range(count)]
        return [batches[place] for place in rng.permutation(count)] if self._lengths is not None else batches


def consecutive(indices: Indices, batch: int, chunk: int | None) -> Sequence[Indices]:
    """Indices in order, in batches; where a chunk is given, what does not fill one is left out."""
    size = batch if chunk is None else max(chunk, batch // chunk * chunk)
    end = len(indices) if chunk is None else max(len(indices) // chunk * chunk, 0)
    return [indices[start : min(start + size, end)] for start in range(0, end, size)]

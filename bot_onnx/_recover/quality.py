"""How good a student is: its outputs beside the teacher's, on samples that took no part in the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bot_onnx._recover.dataset import Dataset, Indices
from bot_onnx._recover.network import Frozen, Network
from bot_onnx._recover.teacher import Teacher
from bot_onnx._recover.types import Array, OutputQuality
from bot_onnx._verify.comparison import cosine_sum, divergence_sum

_FEWEST_SAMPLES = 4  # six pairs: fewer tell nothing
_TINY = 1e-12

Floats = NDArray[np.float64]


class _Tally:
    """Sums over batches for one output: of logits, of probabilities, or of neither."""

    def __init__(self, logits: bool, words: bool, chances: bool) -> None:
        self.classes, self.words, self.chances = logits or chances, words, chances
        self.rows = self.numbers = 0
        self.cosine = self.divergence = self.agreed = self.squares = self.total = self.total_squares = 0.0
        self.alike = True
        self.vectors: tuple[list[Floats], list[Floats]] = ([], [])

    def add(self, ours: Array, theirs: Array, mask: Array | None) -> None:
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        if self.words:  # tokens are never mixed: those that both know
            kept = min(a.shape[-1], b.shape[-1])
            a, b = a[..., :kept], b[..., :kept]
        tokens = mask if mask is not None and a.ndim > 2 and a.shape[:2] == mask.shape else None
        for side, found in zip(self.vectors, (a, b), strict=True):
            side.append(_sample_vectors(found, tokens))
        if a.shape != b.shape:
            self.alike = False
            return
        if tokens is not None:
            a, b = a[tokens > 0], b[tokens > 0]
        a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
        self.rows += len(a)
        self.numbers += b.size
        self.cosine += cosine_sum(a, b)
        self.squares += float(np.square(a - b).sum())
        self.total += float(b.sum())
        self.total_squares += float(np.square(b).sum())
        if self.classes:
            self.divergence += divergence_sum(*map(_logarithms, (a, b))) if self.chances else divergence_sum(a, b)
            self.agreed += float((a.argmax(1) == b.argmax(1)).sum())

    def quality(self, name: str) -> OutputQuality:
        classes = self.classes and self.alike and self.rows > 0
        whole = self.alike and self.rows > 0
        variance = self.total_squares / max(self.numbers, 1) - (self.total / max(self.numbers, 1)) ** 2
        return OutputQuality(
            output=name,
            cosine=self.cosine / self.rows if whole else None,
            error=self.squares / self.numbers / max(variance, _TINY) if whole else None,
            agreement=self.agreed / self.rows if classes else None,
            divergence=max(0.0, self.divergence / self.rows) if classes else None,
            similarity=None if self.classes else _correlation(*map(np.concatenate, self.vectors)),
        )


def measure(
    student: Frozen, teacher: Teacher, networks: tuple[Network, Network], data: Dataset, batches: Sequence[Indices]
) -> tuple[OutputQuality, ...]:
    """Compare the outputs that both have, on the samples that were held out.

    Args:
        student: that runs. teacher: that answers.
        networks: the student's and the teacher's.
        data: the samples.
        batches: indices of those held out, as many at a time as are run together.
    """
    names = [name for name in networks[0].outputs if name in networks[1].outputs]
    logits, words, chances = networks[0].logits, networks[0].words, networks[0].chances & networks[1].chances
    tallies = {name: _Tally(name in logits, name in words, name in chances) for name in names}
    for chosen in batches:
        feeds = data.feeds(chosen)
        ours, theirs = student.run(feeds, data.fixed, names), teacher.answers(chosen, feeds)
        mask = feeds[data.mask] if data.mask is not None else None
        for name, tally in tallies.items():
            if ours[name].ndim == theirs[name].ndim and ours[name].ndim > 1:
                tally.add(ours[name], theirs[name], mask)
    return tuple(tally.quality(name) for name, tally in tallies.items() if tally.vectors[0])


def _logarithms(chances: Floats) -> Floats:
    """Logits that probabilities are the softmax of."""
    found: Floats = np.log(np.maximum(chances, np.finfo(np.float32).tiny))
    return found


def _sample_vectors(values: Floats, mask: Array | None) -> Floats:
    """``[samples, numbers]``: the mean over tokens (the second axis, where there are three) that are no padding."""
    if values.ndim != 3 and mask is None:
        return values.reshape(len(values), -1)
    weights = np.ones((*values.shape[:2], 1)) if mask is None else mask.astype(np.float64)[..., None]
    tokens = values.reshape(*values.shape[:2], -1)
    found: Floats = (tokens * weights).sum(1) / np.maximum(weights.sum(1), 1.0)
    return found


def _correlation(ours: Floats, theirs: Floats) -> float | None:
    """Pearson's r of the cosine similarities of all pairs of samples."""
    if len(ours) < _FEWEST_SAMPLES:
        return None
    pairs = np.triu_indices(len(ours), 1)
    sims = [_cosines(side)[pairs] for side in (ours, theirs)]
    if min(np.ptp(side) for side in sims) < _TINY:
        return None
    return float(np.corrcoef(sims[0], sims[1])[0, 1])


def _cosines(rows: Floats) -> Floats:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    found: Floats = unit @ unit.T
    return found


def got_worse(before: Sequence[OutputQuality], after: Sequence[OutputQuality]) -> list[str]:
    """Names of the outputs that are further from the teacher than before."""

    def distance(quality: OutputQuality) -> float:
        return quality.error if quality.error is not None else -(quality.similarity or 0.0)

    return [new.output for old, new in zip(before, after, strict=True) if distance(new) > distance(old)]

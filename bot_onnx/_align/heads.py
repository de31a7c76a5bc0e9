"""Align the heads of one layer: which heads become neighbours, and in which order their channels stand.

A filter over heads adds channel j of one head to channel j of the next, and the channels of a head have no order of
their own: those of two neighbours are matched first, so that like meets like. Heads are paired by what remains in
common after the matching, and pairs are paired again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import Indices
from bot_onnx._align.pairing import greedy_matching, greedy_pairs, improve_pairs, similar_order

Floats = NDArray[np.float32]


@dataclass(slots=True)
class HeadGrams:
    """Inner products between the channels of all heads of a layer.

    Attributes:
        heads: ``[n, n]``: of what has no channels that may be reordered (rotary queries and keys).
        inner: per leaf whose order may differ from head to head: ``[n, m, n, m]``, n heads of m channels.
    """

    heads: Floats
    inner: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class HeadOrder:
    """Order of the heads (None: as they were), and per inner leaf the channel of every head at every place."""

    heads: Indices | None
    inner: Mapping[str, Indices]


def order_heads(grams: HeadGrams, *, reorder: bool, shrinking: frozenset[str]) -> HeadOrder:
    """Order heads and their channels.

    Args:
        grams: of the layer; changed in place.
        reorder: the heads shrink in number. Channels then follow their head's partner; else every head orders its own.
        shrinking: inner leaves that shrink themselves.
    """
    count = len(grams.heads)
    tables = {leaf: np.tile(np.arange(gram.shape[1]), (count, 1)) for leaf, gram in grams.inner.items()}
    if not reorder:
        for leaf in shrinking:
            gram = grams.inner[leaf]
            tables[leaf] = np.stack([similar_order(gram[head, :, head, :]) for head in range(count)])
        return HeadOrder(None, {leaf: tables[leaf] for leaf in shrinking})
    blocks = [[head] for head in range(count)]
    tail: list[list[int]] = []
    while len(blocks) > 1:
        scores = _scores(grams)
        pairs = improve_pairs(scores, greedy_pairs(scores))
        for leaf, gram in grams.inner.items():
            for a, b in pairs:
                match = greedy_matching(gram[a, :, b, :])
                gram[b] = gram[b][match]
                gram[:, :, b, :] = gram[:, :, b, :][:, :, match]
                tables[leaf][blocks[b]] = tables[leaf][blocks[b]][:, match]
        alone = set(range(len(blocks))) - set(pairs.ravel().tolist())
        tail += [blocks[index] for index in alone]
        blocks = [[*blocks[a], *blocks[b]] for a, b in pairs]
        grams = _merged(grams, pairs)
    for leaf in shrinking:
        tables[leaf] = tables[leaf][:, similar_order(grams.inner[leaf][0, :, 0, :])]
    order = np.array([head for block in [*blocks, *reversed(tail)] for head in block], dtype=np.intp)
    return HeadOrder(order, tables)


def _scores(grams: HeadGrams) -> Floats:
    """What two heads would have in common: the best partner of every channel, seen from both sides."""
    scores = grams.heads.copy()
    for gram in grams.inner.values():
        best = gram.max(axis=3).sum(axis=1)
        scores += (best + best.T) / 2
    return scores


def _merged(grams: HeadGrams, pairs: Indices) -> HeadGrams:
    i, j = pairs[:, 0], pairs[:, 1]
    heads = grams.heads[i] + grams.heads[j]
    heads = heads[:, i] + heads[:, j]
    inner = {}
    for leaf, gram in grams.inner.items():
        rows = gram[i] + gram[j]
        inner[leaf] = rows[:, :, i, :] + rows[:, :, j, :]
    return HeadGrams(heads, inner)

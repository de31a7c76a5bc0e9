"""Order the indices of an axis so that neighbours are alike: greedy pairing, level by level.

A Haar step keeps of two neighbours x and y the energy ‖x + y‖²/2 = (‖x‖² + ‖y‖²)/2 + x·y, so over a whole axis it
keeps half of the energy plus the sum of the pairs' inner products: the best order pairs for the largest sum. Pairs are
paired again (their rows added), so that 4, 8… neighbours are alike as well; an order that is sorted through all levels
also serves ratios that are no power of two.

Matrices are arrays of a namespace ``xp``, NumPy's by default; lists of indices are NumPy's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.places import Array, Namespace, best_of_rows, crossing, entries, without_diagonal

Floats = NDArray[np.float32] | NDArray[np.float64]
Indices = NDArray[np.intp]


def greedy_pairs(similarity: Array, xp: Namespace = np) -> Indices:
    """Pair indices greedily, the most similar pair first.

    Rounds of mutual best partners find the same pairs as a walk through all pairs in falling order does, without
    sorting them. Equal similarities go to the lower index.

    Args:
        similarity: symmetric ``[n, n]``; the diagonal is not looked at. It is not changed.

    Returns:
        ``[n // 2, 2]``, most similar first within a round, the lower index first in a pair. One index is left out where
        n is odd.
    """
    free = np.arange(similarity.shape[0])
    found: list[Indices] = []
    rest = without_diagonal(similarity, xp)
    while len(free) > 1:
        best = best_of_rows(rest, xp)
        places = np.arange(len(free))
        mutual = (best[best] == places) & (places < best)
        if not mutual.any():  # a ring of equal similarities: take the first of the largest
            first = int(xp.argmax(xp.max(rest, axis=1)))
            mutual = places == first
        left = places[mutual]
        right = best[left]
        rank = np.argsort(-entries(rest, left, right, xp), kind="stable")
        pairs = np.stack([free[left], free[right]], axis=1)[rank]
        found.append(np.sort(pairs, axis=1))
        keep = np.ones(len(free), dtype=bool)
        keep[left] = keep[right] = False
        free, kept = free[keep], np.flatnonzero(keep)
        rest = crossing(rest, kept, kept, xp)
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.intp)


def improve_pairs(similarity: Array, pairs: Indices, rounds: int = 2, xp: Namespace = np) -> Indices:
    """Exchange partners between pairs while that raises the sum of the similarities.

    For pairs (a, b) and (c, d) both other pairings, (a, c)(b, d) and (a, d)(b, c), are tried; in a round every pair
    takes part in one exchange at most, the most rewarding first.

    Args:
        similarity: symmetric ``[n, n]``. pairs: ``[m, 2]``, not changed.
        rounds: at most this many.
    """
    pairs = pairs.copy()
    for _ in range(rounds if len(pairs) > 1 else 0):
        a, b = pairs[:, 0], pairs[:, 1]
        own = entries(similarity, a, b, xp)
        straight = crossing(similarity, a, a, xp) + crossing(similarity, b, b, xp)
        crossed = crossing(similarity, a, b, xp)
        crossed = crossed + crossed.T
        placed_own = xp.asarray(own)
        gain = xp.where(straight >= crossed, straight, crossed) - placed_own[:, None] - placed_own[None, :]
        exchanges = greedy_pairs(gain, xp)
        least = 1e-6 * max(float(np.abs(own).max()), 1e-30)
        exchanges = exchanges[entries(gain, exchanges[:, 0], exchanges[:, 1], xp) > least]
        if not len(exchanges):
            break
        i, j = exchanges[:, 0], exchanges[:, 1]
        across = entries(straight, i, j, xp) >= entries(crossed, i, j, xp)
        first = np.where(across[:, None], np.stack([a[i], a[j]], 1), np.stack([a[i], b[j]], 1))
        second = np.where(across[:, None], np.stack([b[i], b[j]], 1), np.stack([b[i], a[j]], 1))
        pairs[i], pairs[j] = np.sort(first, axis=1), np.sort(second, axis=1)
    return pairs


def greedy_matching(similarity: Floats) -> Indices:
    """One-to-one assignment of columns to rows, greedy: ``result[row] = column``.

    Args:
        similarity: ``[n, n]``, not symmetric.
    """
    n = len(similarity)
    match = np.full(n, -1, dtype=np.intp)
    rows, columns = np.arange(n), np.arange(n)
    rest = np.array(similarity, copy=True)
    while len(rows):
        best_column, best_row = rest.argmax(axis=1), rest.argmax(axis=0)
        mutual = best_row[best_column] == np.arange(len(rows))
        if not mutual.any():
            mutual[int(rest.max(axis=1).argmax())] = True
        match[rows[mutual]] = columns[best_column[mutual]]
        keep = np.ones(len(columns), dtype=bool)
        keep[best_column[mutual]] = False
        rows, columns, rest = rows[~mutual], columns[keep], rest[np.ix_(~mutual, keep)]
    return match


def similar_order(gram: Array, xp: Namespace = np) -> Indices:
    """An order of the indices in which neighbours are alike at every scale.

    An index (or block) left over at a level goes behind all others, so that every block of 2, 4, 8… starts at a
    multiple of its length.

    Args:
        gram: ``[n, n]`` inner products of the rows to order; not changed.

    Returns:
        Permutation: place p is taken by index ``order[p]``.
    """
    blocks = np.arange(gram.shape[0])[:, None]
    current = gram
    tail: list[Indices] = []
    while len(blocks) > 1:
        pairs = improve_pairs(current, greedy_pairs(current, xp), xp=xp)
        if len(blocks) % 2:
            (alone,) = set(range(len(blocks))) - set(pairs.ravel().tolist())
            tail.append(blocks[alone])
        i, j = pairs[:, 0], pairs[:, 1]
        blocks = np.concatenate([blocks[i], blocks[j]], axis=1)
        current = sum((crossing(current, p, q, xp) for p, q in ((i, j), (j, i), (j, j))), crossing(current, i, i, xp))
    return np.concatenate([blocks[0] if len(blocks) else np.empty(0, dtype=np.intp), *reversed(tail)])

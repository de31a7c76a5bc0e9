"""Copies that share what reads them unequally: weights that sum to 1, none of them equal.

A neuron that is copied c times keeps the function for any shares α_1 … α_c of its outgoing weights with Σ α = 1. Equal
ones leave the copies equal in all training to come; unequal ones give each another gradient at the first step (Wang et
al., "LEMON: Lossless model expansion", ICLR 2024, arXiv:2310.07999: α + β = 1, α ≠ β).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.filters import Matrix


def unequal_shares(index: NDArray[np.int64], rng: np.random.Generator, scale: float = 1.0) -> Matrix:
    """The part that each copy has of a contraction, ``[target]``; the copies of an index sum to 1.

    Of c copies the one of rank r, in random order, has α = u_r / Σ u with u_r uniform in r + ½ ± ¼, so that two copies
    share as 1 to 3 or so, and never equally. With a scale e that is 1/c + e (α - 1/c).

    Args:
        index: source index of every target index, ``[target]``; none is left out.
        rng: of the draws.
        scale: e.
    """
    counts = np.bincount(index)
    first = np.cumsum([0, *counts[:-1]])
    order = np.lexsort((rng.random(len(index)), index))  # by source index, and among its copies at random
    drawn = np.empty(len(index))
    drawn[order] = np.arange(len(index)) - first[index[order]] + 0.5 + rng.uniform(-0.25, 0.25, len(index))
    drawn /= np.bincount(index, drawn)[index]
    equal = 1.0 / counts[index]
    unequal: Matrix = equal + scale * (drawn - equal)
    return unequal

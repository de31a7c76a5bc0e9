"""Copies that share what reads them unequally: weights that sum to 1, none of them equal.

A neuron that is copied c times keeps the function for any shares α_1 … α_c of its outgoing weights with Σ α = 1. Equal
ones leave the copies equal in all training to come; unequal ones give each another gradient at the first step (Wang et
al., "LEMON: Lossless model expansion", ICLR 2024, arXiv:2310.07999: α + β = 1, α ≠ β).
"""

from __future__ import annotations

import numpy as np

from bot_onnx._resample.filters import COPIES, Matrix
from bot_onnx._resample.growth import copied_index, shares


def unequal_shares(source: int, target: int, rng: np.random.Generator, scale: float = 1.0) -> Matrix:
    """The part that each copy has of a contraction, ``[target]``; the copies of an index sum to 1.

    Of c copies the one of rank r, in random order, has α = u_r / Σ u with u_r uniform in r + ½ ± ¼, so that two copies
    share as 1 to 3 or so, and never equally. With a scale e that is 1/c + e (α - 1/c).
    """
    index, equal = copied_index(COPIES, source, target), shares(COPIES, source, target)
    first = np.searchsorted(index, np.arange(source))
    order = np.lexsort((rng.random(target), index))  # copies stand side by side: within each group at random
    drawn = np.empty(target)
    drawn[order] = np.arange(target) - first[index] + 0.5 + rng.uniform(-0.25, 0.25, target)
    drawn /= np.add.reduceat(drawn, first)[index]
    unequal: Matrix = equal + scale * (drawn - equal)
    return unequal

"""Heads: twins are found though their channels stand in another order, and the channels are brought into line."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._align.heads import HeadGrams, order_heads

HEADS, CHANNELS, FEATURES = 6, 5, 300


def twins(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[heads, channels, features]`` in which heads 2k and 2k+1 are alike up to a shuffle, then all shuffled."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((HEADS // 2, CHANNELS, FEATURES))
    rows = np.empty((HEADS, CHANNELS, FEATURES))
    for head in range(HEADS):
        noise = 0.1 * rng.standard_normal((CHANNELS, FEATURES))
        rows[head] = (base[head // 2] + noise)[rng.permutation(CHANNELS)]
    places = rng.permutation(HEADS)
    return rows[places], places


def gram(rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(HEADS * CHANNELS, -1)
    return (flat @ flat.T).reshape(HEADS, CHANNELS, HEADS, CHANNELS).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_twin_heads_become_neighbours_channel_by_channel(seed: int) -> None:
    rows, places = twins(seed)
    grams = HeadGrams(np.zeros((HEADS, HEADS), dtype=np.float32), {"v": gram(rows)})
    order = order_heads(grams, reorder=True, shrinking=frozenset())
    assert order.heads is not None
    assert sorted(order.heads.tolist()) == list(range(HEADS))
    aligned = np.stack([rows[head][order.inner["v"][head]] for head in order.heads])
    for first in range(0, HEADS, 2):
        assert places[order.heads[first]] // 2 == places[order.heads[first + 1]] // 2
        for channel in range(CHANNELS):
            assert np.corrcoef(aligned[first, channel], aligned[first + 1, channel])[0, 1] > 0.9


def test_channels_alone_pair_within_their_head() -> None:
    rng = np.random.default_rng(0)
    base = np.repeat(rng.standard_normal((HEADS, 2, FEATURES)), 2, axis=1)
    rows = np.stack([head[rng.permutation(4)] for head in base])
    flat = rows.reshape(HEADS * 4, -1)
    product = (flat @ flat.T).reshape(HEADS, 4, HEADS, 4).astype(np.float32)
    grams = HeadGrams(np.zeros((HEADS, HEADS), dtype=np.float32), {"v": product})
    order = order_heads(grams, reorder=False, shrinking=frozenset({"v"}))
    assert order.heads is None
    for head in range(HEADS):
        aligned = rows[head][order.inner["v"][head]]
        np.testing.assert_array_equal(aligned[0::2], aligned[1::2])

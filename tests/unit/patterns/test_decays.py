"""Tables of decays are formulas: told from weights, kept with their axes, and never blended between layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._patterns.decays import is_decay
from bot_onnx._reasons import Why
from bot_onnx.errors import BotError
from tests.graphs import GraphBuilder, save

HEADS, POSITIONS, HEAD_DIM = 4, 16, 4


def decay(factor: float = 1.0, positions: int = POSITIONS) -> NDArray[np.float32]:
    """``[heads, positions, 1]``: exp(-slope t), as linear attention weights what came t positions before."""
    slopes = factor * 2.0 ** (-8 * np.arange(1, HEADS + 1) / HEADS)
    return np.exp(-slopes[:, None, None] * np.arange(1, positions + 1)[:, None]).astype(np.float32)


def decaying_model(factors: tuple[float, ...], hidden: int = 16) -> onnx.ModelProto:
    """Layers ``x + mix(heads(x) * decay)``, one factor of the slopes a layer."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    split = b.ints(0, 0, HEADS, HEAD_DIM)
    for factor in factors:
        values = b.op("Reshape", b.op("MatMul", x, b.weight(hidden, HEADS * HEAD_DIM)), split)
        weighted = b.op("Mul", b.op("Transpose", values, perm=[0, 2, 1, 3]), b.constant(decay(factor)))
        joined = b.op("Reshape", b.op("Transpose", weighted, perm=[0, 2, 1, 3]), b.ints(0, 0, HEADS * HEAD_DIM))
        x = b.op("Add", x, b.op("MatMul", joined, b.weight(HEADS * HEAD_DIM, hidden)))
    return b.model([("x", ["batch", POSITIONS, 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


@given(
    slopes=st.lists(st.floats(1e-3, 0.9), min_size=2, max_size=8),
    positions=st.integers(8, 64),
    causal=st.booleans(),
)
def test_decays_are_recognised_in_every_form(slopes: list[float], positions: int, causal: bool) -> None:
    steps = np.arange(positions)[:, None] - np.arange(positions) if causal else np.arange(positions)
    rates = np.array(slopes).reshape(-1, *(1,) * steps.ndim)
    table = np.where(steps >= 0, np.exp(-rates * np.maximum(steps, 0)), 0).astype(np.float32)
    assert is_decay(table) and is_decay(np.moveaxis(table, 0, -1))


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 8), columns=st.integers(8, 32))
def test_what_was_trained_is_no_decay(seed: int, rows: int, columns: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    assert not is_decay(weights) and not is_decay(np.abs(weights) / np.abs(weights).max())


def test_masks_and_constants_are_no_decays() -> None:
    assert not is_decay(np.tril(np.ones((16, 16), np.float32)))
    assert not is_decay(np.full((4, 16), 0.5, np.float32))
    assert not is_decay(np.exp(-np.arange(16, dtype=np.float32)))  # one row: a vector of weights may be anything


def test_the_axes_of_a_decay_stay(tmp_path: Path) -> None:
    source = save(decaying_model((1.0, 1.0, 1.0)), tmp_path)
    structure = bot_onnx.inspect(source).structure
    heads = next(dim for dim in structure.dims.values() if dim.size == HEADS and dim.frozen)
    assert heads.frozen is not None and heads.frozen.kind is Why.NO_FORMULA
    small = tmp_path / "small.onnx"
    bot_onnx.resize(source, {"hidden": 8, "layers": 2}, small)
    tables = [t for t in onnx.load(small).graph.initializer if list(t.dims) == [HEADS, POSITIONS, 1]]
    assert tables and all(np.array_equal(onnx.numpy_helper.to_array(t), decay()) for t in tables)


def test_layers_with_decays_of_their_own_keep_their_number(tmp_path: Path) -> None:
    source, small = save(decaying_model((1.0, 0.5, 0.1)), tmp_path), tmp_path / "small.onnx"
    with pytest.raises(BotError, match=r"keeps its 3 layers, 2 cannot be had: each layer has a table of its own"):
        bot_onnx.resize(source, {"layers": 2}, small)
    bot_onnx.resize(source, {"hidden": 8}, small)
    arrays = [onnx.numpy_helper.to_array(t) for t in onnx.load(small).graph.initializer]
    for factor in (1.0, 0.5, 0.1):
        assert any(np.array_equal(array, decay(factor)) for array in arrays)

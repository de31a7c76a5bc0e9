"""Position tables of sines and cosines: by definition, recognised in every layout, computed anew at another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import bot_onnx
from bot_onnx._patterns.closed_forms import compute
from bot_onnx._patterns.sinusoids import Sinusoids, recognise_sinusoids
from tests.graphs import GraphBuilder, save


def test_the_table_of_the_transformer() -> None:
    """Vaswani et al.: PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i + 1) = cos of the same."""
    rows, width = 50, 16
    place, entry = np.meshgrid(np.arange(rows), np.arange(width), indexing="ij")
    angle = place / 10000 ** (2 * (entry // 2) / width)
    table = np.where(entry % 2 == 0, np.sin(angle), np.cos(angle))
    form = recognise_sinusoids(table.astype(np.float32))
    assert form == "sinusoids:10000,0,1,0,-1"
    assert np.allclose(compute(form, (rows, width), np.dtype(np.float64)), table)


def test_the_table_of_tensor2tensor() -> None:
    """Sines, then cosines of p exp(-i ln(10000) / (n - 1)); the row of padding is zero."""
    angles = np.outer(np.arange(20), np.exp(-np.arange(8) * np.log(10000) / 7))
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    table[1] = 0
    assert recognise_sinusoids(table) == "sinusoids:10000,1,0,0,1"


def test_cosines_may_come_first() -> None:
    table = Sinusoids(1e4, 1, False, 0, -1, turned=True).table((40, 16))
    assert np.allclose(table[:, 0], np.cos(np.arange(40)))
    form = recognise_sinusoids(table.astype(np.float32))
    assert form == "sinusoids:10000,1,0,0,-1,1,1"
    assert np.allclose(compute(form, (40, 8), np.dtype(np.float64))[:, 4], table[:, 8])


def test_a_table_of_distances_counts_down() -> None:
    """Distances from n - 1 on the left to 1 - n on the right, as relative attention wants them."""
    table = Sinusoids(1e4, 0, True, 15, -1, -1).table((1, 31, 16))
    assert np.allclose(table[0, 0, 0], np.sin(15)) and np.allclose(table[0, 30, 0], np.sin(-15))
    form = recognise_sinusoids(table.astype(np.float32))
    assert form == "sinusoids:10000,0,1,15,-1,-1,0"
    assert np.allclose(compute(form, (1, 31, 8), np.dtype(np.float64))[..., :2], table[..., :2])


@given(
    st.sampled_from([1e4, 1e3, 5e5]),
    st.booleans(),
    st.sampled_from([0, 1]),
    st.integers(0, 3),
    st.sampled_from([-1, 0, 1]),
    st.integers(4, 200),
    st.integers(2, 64),
)
def test_every_layout_is_recognised(
    base: float, in_turn: bool, gap: int, first: int, padding: int, rows: int, half: int
) -> None:
    table = Sinusoids(base, gap, in_turn, first, padding).table((rows, 2 * half)).astype(np.float32)
    form = recognise_sinusoids(table)
    assert form is not None
    assert np.allclose(compute(form, table.shape, np.dtype(np.float64)), table, atol=1e-3 * max(1, rows / 64))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.02, 0.5]))
def test_a_trained_table_is_not_one(seed: int, distance: float) -> None:
    rng = np.random.default_rng(seed)
    table = Sinusoids(1e4, 0, True, 0, -1).table((32, 16))
    moved = (table + distance * rng.standard_normal(table.shape)).astype(np.float32)
    assert recognise_sinusoids(moved) is None
    assert recognise_sinusoids(rng.standard_normal((32, 16)).astype(np.float32)) is None


@pytest.mark.parametrize("hidden", [8, 32])
def test_it_is_computed_anew(hidden: int, tmp_path: Path) -> None:
    b = GraphBuilder()
    table = b.constant(Sinusoids(1e4, 1, False, 0, -1).table((24, 16)).astype(np.float32), "positions")
    x = b.op("Add", b.op("Gather", b.weight(11, 16), "ids"), b.op("Gather", table, "places"))
    for _ in range(3):
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(16, 32))), b.weight(32, 16)))
    b.op("MatMul", x, b.weight(16, 3))
    ids = [("ids", ["batch", 4]), ("places", ["batch", 4])]
    model = b.model(ids, [b.nodes[-1].output[0]], integer_inputs=("ids", "places"), rank=3)
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(save(model, tmp_path), {"hidden": hidden}, out).report.passed
    (written,) = [t for t in onnx.load(out).graph.initializer if t.name == "positions"]
    exact = Sinusoids(1e4, 1, False, 0, -1).table((24, hidden))
    assert np.allclose(numpy_helper.to_array(written), exact, atol=1e-6)


@pytest.mark.parametrize("half", [3, 5])
@pytest.mark.parametrize("gap", [0, 1])
def test_the_usual_base_is_believed_where_another_round_one_fits(gap: int, half: int) -> None:
    """Powers of 10000 over four are those of 100000 over five."""
    table = Sinusoids(1e4, gap, False, 0, -1).table((20, 2 * half)).astype(np.float32)
    assert recognise_sinusoids(table) == f"sinusoids:10000,{gap},0,0,-1"

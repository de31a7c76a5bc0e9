"""Frequencies that run into sines and cosines: the round base or ratio tells which formula goes on with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bot_onnx
from bot_onnx._patterns.frequencies import compute_frequencies, is_assumed, recognise_frequencies
from tests.graphs import GraphBuilder, save

Frequencies = NDArray[np.float32]


def over(count: int, base: float, gap: int = 0) -> Frequencies:
    """base^(-i / (count - gap)), worked out in float32 as exporters fold it."""
    step = np.float32(-np.log(base) / (count - gap))
    frequencies: Frequencies = np.exp(np.arange(count, dtype=np.float32) * step)
    return frequencies


def octaves(count: int, ratio: float = 2.0, first: float = 1.0) -> Frequencies:
    return (first * ratio ** np.arange(count)).astype(np.float32)


@pytest.mark.parametrize("count", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("base", [1e4, 1e5, 5e5, 1e6, 5e6, 1e7, 25e4, 8e6, 16e4, 15e4, 100.0])
def test_rotary_bases(base: float, count: int) -> None:
    assert recognise_frequencies(over(count, base)) == f"inv_freq:{base:.12g}"


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 16, 160])
def test_the_usual_base_is_believed_over_both_counts(count: int) -> None:
    """1, 0.1, 0.01, 0.001, 1e-4 are powers of 10000 over four, and of 100000 over five."""
    assert recognise_frequencies(over(count, 1e4)) == "inv_freq:10000"
    assert recognise_frequencies(over(count, 1e4, 1)) == "inv_freq:10000,1"


@pytest.mark.parametrize("count", [2, 4, 9])
@pytest.mark.parametrize("first", [1.0, np.pi, 2 * np.pi])
@pytest.mark.parametrize("ratio", [2.0, 0.5, 3.0, 1.5])
def test_octaves(ratio: float, first: float, count: int) -> None:
    form = recognise_frequencies(octaves(count, ratio, first))
    assert form is not None and form.startswith(f"octaves:{ratio:g},")
    assert np.allclose(compute_frequencies(form, 2 * count), octaves(2 * count, ratio, first))


@pytest.mark.parametrize("count", [4, 8, 32])
@pytest.mark.parametrize("base", [273768.0, 1e4 * 4 ** (8 / 7)])
def test_a_base_that_is_not_round_is_assumed(base: float, count: int) -> None:
    """Bases of rotary embeddings that were stretched to longer texts."""
    form = recognise_frequencies(over(count, base))
    assert form is not None and is_assumed(form)
    assert np.allclose(compute_frequencies(form, count), over(count, base), rtol=2e-5)
    assert not any(is_assumed(one) for one in ("inv_freq:10000", "inv_freq:500000,1", "octaves:1.37,1"))


@pytest.mark.parametrize(
    "values", [octaves(6, 1.379), octaves(6, 1.379, np.pi), over(6, 1e4) / 4, np.array([1, 0.5, 0.3]), octaves(4) - 1]
)
def test_what_is_none_of_these_has_no_formula(values: NDArray[np.floating]) -> None:
    """Also what rises by a ratio that nobody chose, and what starts elsewhere."""
    assert recognise_frequencies(values) is None


def embedded(frequencies: Frequencies, hidden: int = 16) -> onnx.ModelProto:
    """Three layers on a stream; each adds sines and cosines of a mean of it, times these frequencies."""
    b = GraphBuilder()
    table = b.constant(frequencies, "frequencies")
    x = b.op("MatMul", "x", b.weight(3, hidden))
    for _ in range(3):
        place = b.op("ReduceMean", x, axes=[-1], keepdims=1)
        angles = b.op("Mul", place, table)
        waves = b.op("Concat", b.op("Sin", angles), b.op("Cos", angles), axis=-1)
        x = b.op("Add", x, b.op("MatMul", waves, b.weight(2 * frequencies.size, hidden)))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


@pytest.mark.parametrize("width", [0.5, 2])
@pytest.mark.parametrize("law", [octaves, lambda count: over(count, 1e4, 1), lambda count: over(count, 1e4)])
def test_they_are_those_of_a_native_network(law: Callable[[int], Frequencies], width: float, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(save(embedded(law(4)), tmp_path), {"width": width}, out)
    assert result.report.passed
    (written,) = [t for t in onnx.load(out).graph.initializer if t.name == "frequencies"]
    assert np.allclose(numpy_helper.to_array(written), law(int(4 * width)), rtol=1e-5)
    assert not any("assumed" in note for note in result.plan.notes)


@pytest.mark.parametrize("width", [0.5, 2])
def test_an_assumed_base_is_told(width: float, tmp_path: Path) -> None:
    result = bot_onnx.resize(save(embedded(over(4, 40123.0)), tmp_path), {"width": width}, tmp_path / "out.onnx")
    (told,) = [note for note in result.plan.notes if "assumed" in note]
    assert "40123" in told and "no round number" in told


def test_no_formula_keeps_the_size(tmp_path: Path) -> None:
    source = save(embedded(octaves(4, 1.379)), tmp_path)
    dims = bot_onnx.inspect(source).structure.dims
    (dim,) = [dim for dim in dims.values() if dim.size == 4]
    (change,) = [change for change in bot_onnx.plan(source, {"hidden": 8}).dims if change.id == dim.id]
    assert dim.frozen and change.target == 4

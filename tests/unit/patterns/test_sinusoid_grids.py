"""Tables of sines and cosines of the places of an image: told by what they hold, and computed at other widths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._patterns.closed_forms import compute
from bot_onnx._patterns.sinusoid_grids import recognise_sinusoid_grid
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

Floats = NDArray[np.float32]


def detr(channels: int, size: tuple[int, int] = (5, 7), *, turn: bool = False, base: float = 10000) -> Floats:
    """``[1, channels, height, width]`` as DETR's PositionEmbeddingSine makes it for an image without padding."""
    at = [np.arange(1, length + 1, dtype=np.float64) for length in size]
    if turn:
        at = [places / (places[-1] + 1e-6) * 2 * np.pi for places in at]
    y, x = np.meshgrid(*at, indexing="ij")
    features = channels // 2
    divisors = base ** (2 * (np.arange(features) // 2) / features)
    halves = []
    for places in (y, x):
        angles = places[..., None] / divisors
        pairs = np.stack([np.sin(angles[..., 0::2]), np.cos(angles[..., 1::2])], axis=-1)
        halves.append(pairs.reshape(*size, features))
    return np.concatenate(halves, axis=-1).transpose(2, 0, 1)[None].astype(np.float32)


def mae(channels: int, height: int, width: int) -> Floats:
    """``[1, height, width, channels]`` as MAE's get_2d_sincos_pos_embed makes it: columns first, sines in a block."""
    frequencies = 10000 ** (-np.arange(channels // 4) / (channels / 4))
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    angles = [places[..., None] * frequencies for places in (x, y)]
    return np.concatenate([wave(a) for a in angles for wave in (np.sin, np.cos)], axis=-1)[None].astype(np.float32)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("base", [10000, 20])
def test_detr_in_another_width(turn: bool, base: float) -> None:
    form = recognise_sinusoid_grid(detr(32, turn=turn, base=base))
    assert form is not None
    for channels in (8, 12, 64):
        wanted = detr(channels, turn=turn, base=base)
        assert np.allclose(compute(form, wanted.shape, np.dtype(np.float64)), wanted, atol=1e-4)


def test_mae_in_another_width() -> None:
    form = recognise_sinusoid_grid(mae(32, 6, 4))
    assert form is not None
    for channels in (16, 48):
        wanted = mae(channels, 6, 4)
        assert np.allclose(compute(form, wanted.shape, np.dtype(np.float64)), wanted, atol=1e-5)


def test_in_half_precision() -> None:
    assert recognise_sinusoid_grid(detr(32, turn=True).astype(np.float16)) is not None


def test_a_trained_table_is_none() -> None:
    table = detr(32)
    table[0, 5, 2, 3] += 0.01
    assert recognise_sinusoid_grid(table) is None
    assert recognise_sinusoid_grid(np.random.default_rng(0).uniform(-1, 1, (1, 32, 5, 7)).astype(np.float32)) is None


def network(channels: int) -> onnx.ModelProto:
    """Convolutions, with the table between them."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(channels, 3, 1, 1)))
    placed = b.op("Add", x, b.constant(detr(channels, (8, 8))))
    y = b.op("Relu", b.op("Conv", placed, b.weight(channels, channels, 1, 1)))
    return b.model([("x", ["batch", 3, 8, 8])], [b.op("Conv", y, b.weight(4, channels, 1, 1))], rank=4)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_width_equals_native(factor: float, tmp_path: Path) -> None:
    source, out = save(network(16), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"width": factor}, out)
    assert not result.plan.promise.kept
    native = save(network(int(16 * factor)), tmp_path, "native.onnx")
    held = [onnx.numpy_helper.to_array(t) for path in (out, native) for t in onnx.load(path).graph.initializer]
    made, wanted = (array for array in held if array.shape[0] == 1 and array.ndim == 4)
    assert np.allclose(made, wanted, atol=1e-5)
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-4

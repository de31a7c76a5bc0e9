"""Weights that a norm brings to a variance by their number of inputs keep that number; by ones, they may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import bot_onnx
from bot_onnx._reasons import Why
from tests.graphs import GraphBuilder, save
from tests.system.oracle.frozen import assert_frozen


def _network(gains: bool) -> onnx.ModelProto:
    """Two convolutions, the second with standardised weights."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(8, 3, 1, 1)))
    scale = b.weight(6) if gains else b.constant(np.ones(6, np.float32))
    zeros, mean, spread = b.constant(np.zeros(6, np.float32)), b.weight(6), b.constant(np.ones(6, np.float32))
    flat = b.weight(1, 6, 8)
    norm = b.op("BatchNormalization", flat, scale, zeros, mean, spread, outputs=3, training_mode=1)
    b.op("Conv", x, b.op("Reshape", norm, b.ints(6, 8, 1, 1)))
    return b.model([("x", ["batch", 3, 4, 4])], [b.nodes[-1].output[0]], rank=4)


def test_with_gains_the_inputs_are_frozen_by_name(tmp_path: Path) -> None:
    assert_frozen(save(_network(True), tmp_path), 8, Why.STANDARDISED, "standardises weights", asked=16)


def test_without_gains_they_can_change(tmp_path: Path) -> None:
    source = save(_network(False), tmp_path)
    inputs = next(dim for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == 8)
    assert inputs.frozen is None
    assert bot_onnx.resize(source, {"dims": {inputs.name: 4}}, tmp_path / "out.onnx").report.passed

"""A table that is computed again at every size cannot be turned: a stream that it writes to or reads is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import ResampleError
from tests.graphs import GraphBuilder, save

HIDDEN = 16


def _positions(b: GraphBuilder) -> str:
    """Sines and cosines of the positions of the ids."""
    angles = np.outer(np.arange(32), 10000.0 ** (-np.arange(HIDDEN // 2) / (HIDDEN // 2)))
    table = b.constant(np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32), "positions")
    length = b.op("Squeeze", b.op("Gather", b.op("Shape", "ids"), b.ints(1)))
    return b.op("Gather", table, b.op("Range", b.constant(np.int64(0)), length, b.constant(np.int64(1))))


def network(*, positions: bool = False, mean: bool = False) -> onnx.ModelProto:
    """A stream of two layers, and what is known to turn with it; with a table that writes to it or reads it."""
    b = GraphBuilder()
    x = b.op("Gather", b.weight(20, HIDDEN), "ids")
    if positions:
        x = b.op("Add", x, _positions(b))
    for _ in range(2):
        normed = b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN))
        inner = b.op("Relu", b.op("MatMul", normed, b.weight(HIDDEN, 32)))
        x = b.op("Add", x, b.op("MatMul", inner, b.weight(32, HIDDEN)))
    normed = b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN))
    outputs = [b.op("MatMul", normed, b.weight(HIDDEN, 7))]
    if mean:
        outputs.append(b.op("MatMul", normed, b.constant(np.full((HIDDEN, 1), 1 / HIDDEN, np.float32), "mean")))
    return b.model([("ids", ["batch", "sequence"])], outputs, integer_inputs=["ids"], rank=3)


def test_without_one_the_stream_is_turned(tmp_path: Path) -> None:
    assert bot_onnx.plan(save(network(), tmp_path), {"hidden": 8}).align == "rotate"


@pytest.mark.parametrize("name", ["positions", "mean"])
def test_with_one_it_is_not(name: str, tmp_path: Path) -> None:
    source = save(network(**{name: True}), tmp_path)
    assert bot_onnx.plan(source, {"hidden": 8}).align == "select"
    with pytest.raises(ResampleError, match=f"'{name}' is computed again at every size, and cannot be turned"):
        bot_onnx.plan(source, {"hidden": 8}, align="rotate")

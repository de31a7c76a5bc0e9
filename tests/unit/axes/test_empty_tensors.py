"""Tensors without elements have no weights, but their axes follow like all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save


@pytest.mark.parametrize("hidden", [4, 16])
def test_no_tokens_are_as_wide_as_the_others(hidden: int, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Concat", b.op("MatMul", "x", b.weight(4, 8)), b.constant(np.zeros((0, 8), np.float32), "none"), axis=0)
    for _ in range(3):
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(8, 16))), b.weight(16, 8)))
    b.op("MatMul", x, b.weight(8, 3))
    source, out = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"hidden": hidden}, out).report.passed
    (none,) = [tensor for tensor in onnx.load(out).graph.initializer if tensor.name == "none"]
    assert list(none.dims) == [0, hidden]

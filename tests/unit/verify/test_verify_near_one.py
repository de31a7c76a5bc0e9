"""Differences of what is computed as one half and a bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot_onnx import api
from tests.graphs import GraphBuilder, save


@pytest.mark.parametrize(("last", "near_one"), [("Sigmoid", True), ("Exp", False)])
def test_chances_near_zero_are_as_exact_as_numbers_near_one(last: str, near_one: bool, tmp_path: Path) -> None:
    """onnxruntime computes a sigmoid to 2e-7, of whatever size: a map of nothings is no fault of its source."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Add", b.op("MatMul", "x", b.weight(4, 64)), b.weight(64)))
    x = b.op("Add", b.op("MatMul", x, b.weight(64, 3)), b.constant(np.full(3, -17, np.float32)))
    x = b.op("Transpose", b.op(last, x), perm=[1, 0])
    result = api.resize(save(b.model([("x", ["n", 4])], [x]), tmp_path), {"width": 2}, tmp_path / "wide.onnx")
    [entry] = result.report.comparisons
    assert entry.agrees
    assert entry.scale is not None
    assert entry.scale == 1e-2 if near_one else entry.scale < 1e-3

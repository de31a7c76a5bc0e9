"""Differences of what is computed as one half and a bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
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


def by_mask(b: GraphBuilder, first: str, second: str) -> str:
    return b.op("Where", b.op("Greater", first, b.constant(np.array(0.5, np.float32))), first, second)


def side_by_side(b: GraphBuilder, first: str, second: str) -> str:
    return b.op("Concat", first, b.op("Slice", second, b.ints(0), b.ints(1), b.ints(1)), axis=1)


def by_branch(b: GraphBuilder, first: str, second: str) -> str:
    """An If: a second opinion where the first is sure of something."""
    sure = b.op("Greater", b.op("ReduceMax", first, keepdims=0), b.constant(np.array(0.5, np.float32)))
    branches = {
        f"{name}_branch": onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", [value], [f"{name}_value"])],
            name,
            [],
            [onnx.helper.make_tensor_value_info(f"{name}_value", onnx.TensorProto.FLOAT, ["n", 3])],
        )
        for name, value in (("then", second), ("else", first))
    }
    return b.op("If", sure, **branches)


@pytest.mark.parametrize("choice", [by_mask, side_by_side, by_branch])
@pytest.mark.parametrize(("second", "near_one"), [("Sigmoid", True), ("Exp", False)])
def test_chances_are_chances_wherever_they_are_moved(
    choice: Callable[[GraphBuilder, str, str], str], second: str, near_one: bool, tmp_path: Path
) -> None:
    """Beside numbers that are exact however small they are, all is measured by its own scale."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Add", b.op("MatMul", "x", b.weight(4, 64)), b.weight(64)))
    x = b.op("Add", b.op("MatMul", x, b.weight(64, 3)), b.constant(np.full(3, -17, np.float32)))
    x = choice(b, b.op("Sigmoid", x), b.op(second, x))
    result = api.resize(save(b.model([("x", ["n", 4])], [x]), tmp_path), {"width": 2}, tmp_path / "wide.onnx")
    [entry] = result.report.comparisons
    assert entry.scale is not None and (entry.scale == 1e-2) is near_one

"""Norms of a matrix that an exporter worked out: no number of theirs is below zero, in the proof's miniature either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from tests.graphs import GraphBuilder, save


def angles(bound: str, hidden: int = 16, classes: int = 9) -> onnx.ModelProto:
    """Cosines between a normalised stream and columns whose norms are held; then a head with a bias."""
    b = GraphBuilder()
    small = b.constant(np.float32(1e-12))

    def kept(value: str) -> str:
        return b.op("Clip", value, small) if bound == "Clip" else b.op("Max", small, value)

    x = b.op(
        "Add", b.op("MatMul", b.op("Gather", b.weight(20, hidden), "ids"), b.weight(hidden, hidden)), b.weight(hidden)
    )
    x = b.op("Div", x, kept(b.op("ReduceL2", x, axes=[-1], keepdims=1)))
    columns = np.random.default_rng(3).standard_normal((hidden, classes)).astype(np.float32)
    norms = b.constant(np.linalg.norm(columns, axis=0, keepdims=True), "norms")
    cosines = b.op("MatMul", x, b.op("Div", b.constant(columns, "columns"), kept(norms)))
    scaled = b.op("Mul", cosines, b.constant(np.float32(16)))
    b.op("Add", b.op("MatMul", scaled, b.weight(classes, 7)), b.weight(7))
    return b.model([("ids", ["batch", 4])], [b.nodes[-1].output[0]], integer_inputs=("ids",), rank=3)


@pytest.mark.parametrize("bound", ["Clip", "Max"])
def test_norms_are_positive_and_the_bias_behind_them_takes_no_factor(bound: str, tmp_path: Path) -> None:
    source, out = save(angles(bound), tmp_path), tmp_path / "out.onnx"
    stacks = {stack.tensors[0]: stack.positive for stack in bot_onnx.inspect(source).structure.stacks}
    assert [name for name, positive in stacks.items() if positive] == ["norms"]
    result = bot_onnx.resize(source, {"width": 2}, out)
    assert result.report.passed and result.plan.promise.kept is True
    (norms,) = [tensor for tensor in onnx.load(out).graph.initializer if tensor.name == "norms"]
    assert np.all(numpy_helper.to_array(norms) > 0)

"""A quantised network that computes how long its output is, as speech does: rounding makes it another length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bot_onnx import api
from bot_onnx.errors import GraphError
from tests.graphs import GraphBuilder, save


def speech() -> onnx.ModelProto:
    """As many steps as a thousand times the sum of what an 8-bit layer gives."""
    b = GraphBuilder()
    quantised = b.op("DynamicQuantizeLinear", "x", outputs=3)
    weight = b.constant(np.random.default_rng(1).integers(-100, 100, (4, 16)).astype(np.int8))
    made = b.op("MatMulInteger", quantised, weight, f"{quantised}.2")
    made = b.op("Cast", made, to=TensorProto.FLOAT)
    scale = b.op("Mul", f"{quantised}.1", b.constant(np.float32(0.01)))
    hidden = b.op("Relu", b.op("Mul", made, scale))
    total = b.op("ReduceSum", b.op("Abs", b.op("MatMul", hidden, b.weight(16, 1))), keepdims=0)
    steps = b.op("Cast", b.op("Mul", total, b.constant(np.float32(1000))), to=TensorProto.INT64)
    line = b.op("Range", b.constant(np.int64(0)), steps, b.constant(np.int64(1)))
    x = b.op("Cast", line, to=TensorProto.FLOAT)
    return b.model([("x", ["n", 4])], [x], rank=1)


def test_another_length_on_inputs_that_are_made_up_is_told(tmp_path: Path) -> None:
    result = api.resize(save(speech(), tmp_path), {"width": 2}, tmp_path / "wide.onnx")
    assert result.report.passed
    [told] = [note for note in result.plan.notes if "other shapes" in note]
    assert told.startswith("WARNING") and "--inputs" in told


def test_on_inputs_given_it_is_a_refusal(tmp_path: Path) -> None:
    given = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    with pytest.raises(GraphError, match="its shape is"):
        api.resize(save(speech(), tmp_path), {"width": 2}, tmp_path / "wide.onnx", inputs=given)
    assert not (tmp_path / "wide.onnx").exists()

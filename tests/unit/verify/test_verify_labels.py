"""A quantised classifier that gives nothing but labels is held against its floats by how many of them are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto

from bot_onnx import api
from bot_onnx._cli import cli
from bot_onnx._verify.comparison import Way, compare
from bot_onnx.errors import GraphError
from tests.graphs import GraphBuilder, save


def labels(*, packed: bool, step: float = 0.0) -> onnx.ModelProto:
    """The largest of fifty logits; ``packed``: 8-bit weights; ``step``: of the roundings of its input, 0 for none."""
    b = GraphBuilder()
    numbers = np.random.default_rng(1).integers(-100, 100, (64, 128)).astype(np.int8)
    if packed:
        weight = b.op("DequantizeLinear", b.constant(numbers), b.constant(np.array(0.01, np.float32)))
    else:
        weight = b.constant(numbers * np.float32(0.01))
    x = "x"
    if step:
        ends = (b.constant(np.array(step, np.float32)), b.constant(np.array(0, np.int8)))
        x = b.op("DequantizeLinear", b.op("QuantizeLinear", x, *ends), *ends)
    x = b.op("MatMul", b.op("Relu", b.op("MatMul", x, weight)), b.weight(128, 50))
    x = b.op("ArgMax", x, axis=1, keepdims=0)
    model = b.model([("x", ["n", 64])], [x], rank=1)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(x, TensorProto.INT64, ["n"]))
    return model


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_labels_alone_are_held_against_the_floats(width: float, tmp_path: Path) -> None:
    result = api.resize(save(labels(packed=True), tmp_path), {"width": width}, tmp_path / "out.onnx")
    assert result.report.passed and result.plan.promise.kept is (width > 1)
    [told] = [note for note in result.plan.notes if "quantised" in note]
    assert told.endswith("the same in a part of argmax4 1.0000.")


def test_a_classifier_of_labels_alone_is_quantised(tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    done = CliRunner().invoke(
        cli, ["quantize", str(save(labels(packed=False), tmp_path)), "--to", "int8", "-o", str(out)]
    )
    assert done.exit_code == 0 and out.exists(), done.output


def test_labels_that_roundings_change_are_told_or_refused(tmp_path: Path) -> None:
    """Made-up inputs may lie far outside of what a scale was calibrated on; those that are given do not."""
    source, out = save(labels(packed=True, step=1e-3), tmp_path), tmp_path / "out.onnx"
    result = api.resize(source, {"width": 2}, out)
    assert any(note.startswith("WARNING: that is less than 0.9") for note in result.plan.notes)
    given = {"x": np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)}
    with pytest.raises(GraphError, match=r"agree in a part of 0\.\d+ of the elements, less than 0\.9"):
        api.resize(source, {"width": 2}, tmp_path / "given.onnx", inputs=given)
    assert not (tmp_path / "given.onnx").exists()


def test_the_part_that_is_equal() -> None:
    new, source = np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 5]])
    assert compare("y", [new], [source], Way()).equal == 0.75
    assert compare("y", [new.astype(np.float32)], [source.astype(np.float32)], Way()).equal is None
    assert compare("y", [new[:0]], [source[:0]], Way()).equal is None
    assert compare("y", [np.array(["a", "b"])], [np.array(["a", "c"])], Way()).equal == 0.5

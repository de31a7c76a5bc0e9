"""A quantised network that computes how long its output is, as speech does: rounding makes it another length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bot_onnx import api
from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._verify.dequantised import check_dequantised
from bot_onnx.errors import GraphError
from tests.graphs import GraphBuilder, save


def speech(rows: int | str = "n", length: int | str = "length") -> onnx.ModelProto:
    """As many steps as a thousand times the sum of what an 8-bit layer gives, for ``rows``."""
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
    model = b.model([("x", [rows, 4])], [x], rank=1)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(x, TensorProto.FLOAT, [length]))
    return model


def layer(outputs: int, *, packed: bool) -> onnx.ModelProto:
    """An 8-bit layer, or one in floating point, and a head."""
    b = GraphBuilder()
    numbers = np.random.default_rng(1).integers(-100, 100, (4, 16)).astype(np.int8)
    weight = b.op("DequantizeLinear", b.constant(numbers), b.constant(np.float32(0.01)))
    if not packed:
        weight = b.constant(numbers * np.float32(0.01))
    x = b.op("MatMul", b.op("Relu", b.op("MatMul", "x", weight)), b.weight(16, outputs))
    return b.model([("x", ["n", 4])], [x], rank=2)


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


def test_one_run_at_a_written_size_says_nothing_of_lengths(tmp_path: Path) -> None:
    """Where the input's size is written down, both runs of the analysis are one: no size differs between them."""
    result = api.resize(save(speech(rows=3), tmp_path), {"width": 2}, tmp_path / "wide.onnx")
    assert any("other shapes" in note for note in result.plan.notes)


def test_another_size_of_a_declared_axis_is_a_refusal(tmp_path: Path) -> None:
    """A caller counts on a size that the file names, so that rounding must not change it."""
    source = save(speech(rows=3, length=1), tmp_path)  # corrected to what the floats give
    with pytest.raises(GraphError, match=r"cannot be held against the result: .*its shape is"):
        api.resize(source, {"width": 2}, tmp_path / "wide.onnx")
    assert not (tmp_path / "wide.onnx").exists()


@pytest.mark.parametrize("outputs", [5, 6])
def test_an_axis_of_weights_never_differs(outputs: int, tmp_path: Path) -> None:
    """Floats that are those of another network: a defect, and never a length that follows from values."""
    paths = (save(layer(5, packed=False), tmp_path, "floats.onnx"), save(layer(outputs, packed=True), tmp_path))
    with open_model(paths[0]) as plain, open_model(paths[1]) as source:
        floats = analyse(plain.model())
        if outputs == 5:
            assert check_dequantised(floats, source, tmp_path)[1] == ()
        else:
            with pytest.raises(GraphError, match=r"its shape is .*x5, the source's .*x6"):
                check_dequantised(floats, source, tmp_path)

"""The two numbers that a OneHot writes are none of a network's channels, of whatever type they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save

CLASSES = 6


def conditional(channels: int, kind: type) -> onnx.ModelProto:
    """Classes, one-hot, and three layers of weights."""
    b = GraphBuilder()
    x = b.op("OneHot", "label", b.constant(np.array(CLASSES)), b.constant(np.array([0, 1], kind)), axis=-1)
    x = x if kind is np.float32 else b.op("Cast", x, to=onnx.TensorProto.FLOAT)
    x = b.op("Relu", b.op("MatMul", x, b.weight(CLASSES, channels, name="first")))
    x = b.op("Relu", b.op("MatMul", x, b.weight(channels, channels, name="second")))
    y = b.op("MatMul", x, b.weight(channels, 4, name="third"))
    return b.model([("label", ["batch"])], [y], integer_inputs=["label"])


@pytest.mark.parametrize("kind", [np.float32, np.int64])
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_width_is_that_of_the_native_network(width: float, kind: type, tmp_path: Path) -> None:
    source, out = save(conditional(16, kind), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"width": width}, out)
    native, ours = conditional(round(16 * width), kind), onnx.load(out)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in ours.graph.initializer}
    for tensor in native.graph.initializer:
        if tensor.name in ("first", "second", "third"):
            assert list(weights[tensor.name].shape) == list(tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    given = {"label": np.arange(CLASSES)}
    found, wanted = (session(model.SerializeToString()).run(None, given)[0] for model in (ours, native))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)

"""Weights that a file stores in half precision, and widens where it uses them, stay stored so when others come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bot_onnx
from bot_onnx.errors import CheckpointError
from tests.graphs import residual_mlp_model, save


def stored_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The matrices in float16, with a Cast before everything that reads them."""
    graph = model.graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    for tensor in graph.initializer:
        if tensor.name in matrices:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    nodes = [helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.FLOAT) for name in sorted(matrices)]
    for node in graph.node:
        node.input[:] = [f"{name}_wide" if name in matrices else name for name in node.input]
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def kinds(path: Path) -> tuple[set[int], int]:
    graph = onnx.load(path).graph
    return {t.data_type for t in graph.initializer if len(t.dims) == 2}, sum(n.op_type == "Cast" for n in graph.node)


def test_they_stay_so_and_nothing_is_rounded_unasked(tmp_path: Path) -> None:
    model = stored_in_half(residual_mlp_model(3))
    source, out = save(model, tmp_path), tmp_path / "out.onnx"
    weights = bot_onnx.state_dict(source)
    bot_onnx.import_weights(source, weights, out)
    assert kinds(out) == kinds(source) and kinds(source)[0] == {TensorProto.FLOAT16}
    again = bot_onnx.state_dict(out)
    assert all(np.array_equal(again[key], weights[key]) for key in weights)
    trained = {key: values * np.float32(1.0001) for key, values in weights.items()}
    with pytest.raises(CheckpointError, match=r"the graph float16: save it so, .*--cast"):
        bot_onnx.import_weights(source, trained, out, force=True)
    bot_onnx.import_weights(source, trained, out, force=True, cast=True)
    assert kinds(out) == kinds(source)
    key = next(key for key, values in weights.items() if values.ndim == 2)
    rounded = trained[key].astype(np.float16).astype(np.float32)
    assert np.array_equal(bot_onnx.state_dict(out)[key], rounded)

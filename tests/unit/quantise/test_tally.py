"""What a quantiser took and what it left, counted from the two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._quantise.tally import tally
from bot_onnx._quantise.types import Left
from tests.graphs import GraphBuilder, save


def test_every_tensor_of_floats_is_counted_once(tmp_path: Path) -> None:
    b = GraphBuilder()
    taken, kept, other, bias = b.weight(3, 8), b.weight(8, 5), b.weight(5, 2), b.weight(8)
    hidden = b.op("Add", b.op("MatMul", "x", taken), bias)
    model = b.model([("x", ["batch", 3])], [b.op("Gemm", b.op("MatMul", hidden, kept), other)])
    floats = save(model, tmp_path, "floats.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == taken:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((3, 8), np.int8), taken))
    with open_model(floats) as source, open_model(save(model, tmp_path, "packed.onnx")) as packed:
        found = tally(source, packed)
    assert (found.tensors, found.numbers) == (1, 24)  # 3 x 8
    assert set(found.left) == {
        Left("kept", "MatMul", 1, 40),  # 8 x 5, where another MatMul's was taken
        Left("op", "Gemm", 1, 10),
        Left("small", "", 1, 8),
    }

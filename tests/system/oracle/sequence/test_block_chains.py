"""Blocks of text recognisers and of graph networks are layers: fewer or more of them equal native networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

HIDDEN, HEADS, INNER = 12, 3, 24


def recogniser(layers: int) -> onnx.ModelProto:
    """Mixing blocks on a map of features made tokens: one projection, its parts sliced from the front."""
    b = GraphBuilder()
    size = HIDDEN // HEADS
    x = b.op("Relu", b.op("Conv", "x", b.weight(HIDDEN, 3, 3, 3), b.weight(HIDDEN), pads=[1] * 4, strides=[2, 2]))
    x = b.op("Transpose", b.op("Reshape", x, b.ints(0, HIDDEN, -1)), perm=[0, 2, 1])

    def linear(value: str, inner: int, outer: int) -> str:
        return b.op("Add", b.op("MatMul", value, b.weight(inner, outer)), b.weight(outer))

    for _ in range(layers):
        normed = b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN))
        packed = b.op("Reshape", linear(normed, HIDDEN, 3 * HIDDEN), b.ints(0, -1, 3, HEADS, size))
        parts = b.op("Transpose", packed, perm=[2, 0, 3, 1, 4])
        query, key, value = (
            b.op("Squeeze", b.op("Slice", parts, b.ints(part), b.ints(part + 1), b.ints(0)), b.ints(0))
            for part in range(3)
        )
        query = b.op("Mul", query, b.constant(np.array(size**-0.5, np.float32)))
        scores = b.op("Softmax", b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
        mixed = b.op("Transpose", b.op("MatMul", scores, value), perm=[0, 2, 1, 3])
        x = b.op("Add", x, linear(b.op("Reshape", mixed, b.ints(0, -1, HIDDEN)), HIDDEN, HIDDEN))
        inner = linear(b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN)), HIDDEN, INNER)
        x = b.op("Add", x, linear(b.op("Mul", inner, b.op("Sigmoid", inner)), INNER, HIDDEN))
    return b.model([("x", ["n", 3, 8, "w"])], [b.op("MatMul", x, b.weight(HIDDEN, 7))], rank=3)


def messages(layers: int) -> onnx.ModelProto:
    """Neighbours gathered along edges, mapped, and summed where the edges lead."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(5, HIDDEN))
    source, target = (b.op("Gather", "edges", b.constant(np.array(end)), axis=0) for end in (0, 1))
    for _ in range(layers):
        sent = b.op("MatMul", b.op("Gather", x, source, axis=0), b.weight(HIDDEN, HIDDEN))
        places = b.op("Expand", b.op("Unsqueeze", target, b.ints(-1)), b.op("Shape", sent))
        empty = b.op("Mul", x, b.constant(np.array(0.0, np.float32)))
        received = b.op("ScatterElements", empty, places, sent, axis=0, reduction="add")
        x = b.op("Add", x, b.op("Relu", b.op("Add", b.op("MatMul", x, b.weight(HIDDEN, HIDDEN)), received)))
    last = b.op("MatMul", x, b.weight(HIDDEN, 3))
    inputs: list[tuple[str, list[int | str]]] = [("x", ["nodes", 5]), ("edges", [2, "e"])]
    return b.model(inputs, [last], integer_inputs=["edges"], opset=18)


@pytest.mark.parametrize("network", [recogniser, messages])
@pytest.mark.parametrize("layers", [1, 5])
def test_resized_equals_native(network: Callable[[int], onnx.ModelProto], layers: int, tmp_path: Path) -> None:
    source, out = save(network(3), tmp_path), tmp_path / "out.onnx"
    (chain,) = bot_onnx.inspect(source).structure.chains
    assert chain.count == 3
    assert bot_onnx.resize(source, {"layers": layers}, out).report.passed
    native = transplant(analysis_of(out), analysis_of(save(network(layers), tmp_path, "native.onnx")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5

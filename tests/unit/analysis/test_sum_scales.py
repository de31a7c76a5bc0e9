"""Factors beside products that are no scores of an attention: 1/√n of the n elements that a product sums over."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save


def number(b: GraphBuilder, value: float) -> str:
    return b.constant(np.float32(value))


def filled(b: GraphBuilder, like: str, value: float) -> str:
    tensor = onnx.numpy_helper.from_array(np.array([value], np.float32))
    return b.op("ConstantOfShape", b.op("Shape", like), value=tensor)


def stream(b: GraphBuilder, hidden: int) -> str:
    return b.op("Relu", b.op("MatMul", "x", b.weight(5, hidden)))


def learned_query(hidden: int) -> onnx.ModelProto:
    b = GraphBuilder()
    x = stream(b, hidden)
    scores = b.op("Div", b.op("MatMul", x, b.weight(hidden, 1)), number(b, sqrt(hidden)))
    read = b.op("ReduceSum", b.op("Mul", b.op("Softmax", scores, axis=1), x), b.ints(1), keepdims=0)
    return b.model([("x", ["batch", "tokens", 5])], [b.op("MatMul", read, b.weight(hidden, 3))], rank=2)


def logits(hidden: int) -> onnx.ModelProto:
    b = GraphBuilder()
    made = b.op("Add", b.op("MatMul", stream(b, hidden), b.weight(hidden, 3)), b.weight(3))
    return b.model([("x", ["batch", "tokens", 5])], [b.op("Mul", made, number(b, hidden**-0.5))], rank=3)


def linear_attention(hidden: int, *, on_operand: bool) -> onnx.ModelProto:
    b = GraphBuilder()
    x = stream(b, hidden)
    q, k, v = (b.op("MatMul", x, b.weight(hidden, hidden)) for _ in range(3))
    if on_operand:
        q = b.op("Mul", q, number(b, hidden**-0.5))
    read = b.op("MatMul", q, b.op("MatMul", b.op("Transpose", k, perm=[0, 2, 1]), v))
    if not on_operand:
        read = b.op("Div", read, filled(b, read, sqrt(hidden)))
    return b.model([("x", ["batch", "tokens", 5])], [b.op("MatMul", read, b.weight(hidden, 3))], rank=3)


NETWORKS = {
    "learned query": learned_query,
    "logits": logits,
    "on an operand": lambda hidden: linear_attention(hidden, on_operand=True),
    "filled": lambda hidden: linear_attention(hidden, on_operand=False),
}


def factors(path: Path) -> list[float]:
    """Single numbers that products and quotients of a file work with."""
    graph = onnx.load(path).graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    fills = (node for node in graph.node if node.op_type == "ConstantOfShape")
    held |= {node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t) for node in fills}
    read = (held.get(name) for node in graph.node if node.op_type in ("Mul", "Div") for name in node.input)
    return [float(array.reshape(-1)[0]) for array in read if array is not None and array.size == 1]


@pytest.mark.parametrize("width", [0.5, 2.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_follows_the_size(name: str, width: float, tmp_path: Path) -> None:
    build = NETWORKS[name]
    native = save(build(round(24 * width)), tmp_path, "native.onnx")
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(save(build(24), tmp_path), {"width": width}, out)
    assert factors(out) == pytest.approx(factors(native))
    assert result.plan.promise.kept is (width > 1) and result.report.passed


@pytest.mark.parametrize("hidden", [4, 16])
def test_other_numbers_are_constants(hidden: int, tmp_path: Path) -> None:
    """A half behind a product over 4, and a quarter in front of an activation."""
    b = GraphBuilder()
    x = b.op("Mul", b.op("MatMul", stream(b, hidden), b.weight(hidden, 7)), number(b, hidden**-0.5))
    y = b.op("MatMul", b.op("Relu", x) if hidden == 16 else x, b.weight(7, 3))
    source, out = save(b.model([("x", ["batch", 5])], [y]), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"width": 0.5}, out)
    assert factors(out) == pytest.approx(factors(source))


def standardised(hidden: int) -> onnx.ModelProto:
    """Weights brought to a variance of one over their number of inputs, as the network runs (Brock et al. 2021)."""
    b = GraphBuilder()
    count = 9 * hidden
    x = b.op("Relu", b.op("Conv", "x", b.weight(hidden, 3, 3, 3), pads=[1, 1, 1, 1]))
    w = b.weight(6, hidden, 3, 3)
    centred = b.op("Sub", w, b.op("ReduceMean", w, axes=[1, 2, 3], keepdims=1))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes=[1, 2, 3], keepdims=1)
    variance = b.op("Div", b.op("Mul", variance, number(b, count)), number(b, count - 1))
    spread = b.op("Sqrt", b.op("Add", b.op("Mul", variance, number(b, count)), number(b, 1e-4)))
    made = b.op("Conv", x, b.op("Div", centred, spread), pads=[1, 1, 1, 1])
    return b.model([("x", ["batch", 3, 8, 8])], [made], rank=4)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_a_mean_that_is_made_a_sum_again_counts_what_it_is_over(width: float, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(save(standardised(8), tmp_path), {"width": width}, out).report.passed
    assert factors(out) == pytest.approx(factors(save(standardised(round(8 * width)), tmp_path, "native.onnx")))

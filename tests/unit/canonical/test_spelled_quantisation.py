"""Quantisation in other words: casts and products instead of DequantizeLinear, biases added as integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bot_onnx import api
from bot_onnx.errors import GraphError
from tests.graphs import GraphBuilder


def packed(b: GraphBuilder, *shape: int, form: str = "", axis: int = -1) -> str:
    """A weight as integers that are cast, shifted and scaled."""
    weight = np.random.default_rng(len(b.nodes)).standard_normal(shape).astype(np.float32) * 0.2
    others = tuple(index for index in range(len(shape)) if index != axis % len(shape))
    scale = np.abs(weight).max(others if form != "scalar" else None, keepdims=form != "scalar") / 127
    scale = scale.astype(np.float32)
    stored = np.rint(weight / scale)
    if form == "shifted":
        x = b.op("Cast", b.constant((stored + 128).astype(np.uint8)), to=1)
        x = b.op("Sub", x, b.op("Cast", b.constant(np.full(scale.shape, 128, np.uint8)), to=1))
    else:
        x = b.op("Cast", b.constant(stored.astype(np.int8)), to=1)
    if form == "divided":
        return b.op("Div", x, b.constant(1 / scale))
    return b.op("Mul", *((b.constant(scale), x) if form == "turned" else (x, b.constant(scale))))


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0])


@pytest.mark.parametrize("form", ["", "scalar", "shifted", "divided", "turned"])
def test_a_weight_that_is_cast_and_scaled(tmp_path: Path, form: str) -> None:
    b = GraphBuilder()
    hidden = b.op("Relu", b.op("MatMul", "x", packed(b, 20, 64, form=form)))
    model = b.model([("x", ["n", 20])], [b.op("MatMul", hidden, packed(b, 64, 5, form=form))])
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    structure = api.inspect(path).structure
    assert {stack.kind for stack in structure.stacks} == {"matrix"}
    assert "out" in {dim.role for dim in structure.dims.values()}
    x = np.random.default_rng(5).standard_normal((3, 20)).astype(np.float32)
    grown = api.resize(path, {"width": 2.0}, tmp_path / "grown.onnx").output
    np.testing.assert_allclose(run(grown, x), run(path, x), rtol=1e-4, atol=1e-5)
    again = api.resize(path, {"width": 2.0}, tmp_path / "again.onnx", requantize=True).output
    assert sum(node.op_type == "DequantizeLinear" for node in onnx.load(again).graph.node) == 2
    np.testing.assert_allclose(run(again, x), run(path, x), atol=0.05)


def test_integers_that_are_no_weight_stay(tmp_path: Path) -> None:
    b = GraphBuilder()
    mask = b.op(
        "Mul", b.op("Cast", b.constant(np.tri(5, dtype=np.int8)), to=1), b.constant(np.array([-1e4], np.float32))
    )
    hidden = b.op("MatMul", b.op("Relu", b.op("MatMul", "x", b.weight(20, 64))), b.weight(64, 5))
    path = tmp_path / "model.onnx"
    onnx.save(b.model([("x", [5, 20])], [b.op("Add", hidden, mask)]), path)
    assert not any("Quantised" in note for note in api.inspect(path).structure.notes)


def test_quantising_again_needs_the_op(tmp_path: Path) -> None:
    b = GraphBuilder()
    hidden = b.op("Relu", b.op("MatMul", "x", packed(b, 20, 64)))
    path = tmp_path / "model.onnx"
    onnx.save(b.model([("x", ["n", 20])], [b.op("MatMul", hidden, packed(b, 64, 5))], opset=11), path)
    with pytest.raises(GraphError, match="needs opset 13"):
        api.resize(path, {"width": 0.5}, tmp_path / "half.onnx", requantize=True)
    assert list(tmp_path.iterdir()) == [path]
    api.resize(path, {"width": 0.5}, tmp_path / "half.onnx")


def integer_convolution(b: GraphBuilder, x: str, inner: int, outer: int) -> str:
    """``Cast(ConvInteger(x) + Cast(Floor(bias / (sx * sw)))) * (sx * sw)``, as onnxruntime once wrote it."""
    weight = np.random.default_rng(outer).standard_normal((outer, inner, 3, 3)) * 0.2
    scale = np.float32(np.abs(weight).max() / 127)
    stored = b.constant(np.clip(np.rint(weight / scale + 128), 0, 255).astype(np.uint8))
    b.op("DynamicQuantizeLinear", x, outputs=3)
    numbers, factor, zero = b.nodes[-1].output
    product = b.op(
        "ConvInteger", numbers, stored, zero, b.constant(np.uint8(128)), pads=[1, 1, 1, 1], kernel_shape=[3, 3]
    )
    both = b.op("Mul", factor, b.constant(scale))
    bias = b.op("Cast", b.op("Floor", b.op("Div", b.weight(outer), both)), to=TensorProto.INT32)
    total = b.op("Add", product, b.op("Reshape", bias, b.ints(1, outer, 1, 1)))
    return b.op("Mul", b.op("Cast", total, to=1), both)


def test_a_bias_that_is_added_to_integers(tmp_path: Path) -> None:
    b = GraphBuilder()
    hidden = b.op("Relu", integer_convolution(b, "x", 3, 16))
    model = b.model([("x", ["n", 3, "h", "w"])], [integer_convolution(b, hidden, 16, 5)], rank=4, opset=11)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    grown = api.resize(path, {"width": 2.0}, tmp_path / "grown.onnx").output
    assert not any(node.op_type == "ConvInteger" for node in onnx.load(grown).graph.node)
    expected = run(path, x)
    np.testing.assert_allclose(run(grown, x), expected, atol=0.03 * np.abs(expected).max())
    half = onnx.load(api.resize(path, {"width": 0.5}, tmp_path / "half.onnx").output)
    assert sorted(tuple(t.dims) for t in half.graph.initializer if len(t.dims) == 4) == [(5, 8, 3, 3), (8, 3, 3, 3)]


@pytest.mark.parametrize("op", ["MatMulInteger", "ConvInteger"])
def test_integers_without_scales_are_named(tmp_path: Path, op: str) -> None:
    """Nothing says what the numbers mean: refused by the op's name, with whatever zero points."""
    b = GraphBuilder()
    shape = (20, 5) if op == "MatMulInteger" else (5, 20, 1, 1)
    stored = b.constant(np.ones(shape, np.uint8))
    axes: list[int | str] = ["n", 20] if op == "MatMulInteger" else ["n", 20, 4, 4]
    made = b.op("Cast", b.op(op, "x", stored, b.constant(np.uint8(3))), to=1)
    model = b.model([("x", axes)], [made], rank=len(axes))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(made, 1, None))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(GraphError, match=op):
        api.resize(path, {}, tmp_path / "same.onnx")

"""The float32 form of a network in half precision: every half is widened, and computes the same but for rounding."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx._recover.float_form import halves_of, widen
from bot_onnx._recover.form import Form
from bot_onnx._recover.network import Frozen, read_network
from tests.unit.recover.halves import autocast_network, save

HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def types_of(message: onnx.ModelProto) -> set[int]:
    """Of all tensors and of all values that the message or shape inference knows."""
    graph = onnx.shape_inference.infer_shapes(message, strict_mode=True).graph
    ports = (*graph.input, *graph.output, *graph.value_info)
    return {port.type.tensor_type.elem_type for port in ports} | {t.data_type for _, t in all_tensors(message)}


def with_everything() -> onnx.ModelProto:
    """Halves in an initializer, a Constant, a body, sizes, attributes of types, and what a Cast makes of integers."""
    half = TensorProto.FLOAT16
    body = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([3], np.float16), "c")),
            helper.make_node("Cast", ["ids"], ["i"], to=half),
            helper.make_node("Add", ["c", "i"], ["from_body"]),
        ],
        "body",
        [],
        [helper.make_tensor_value_info("from_body", half, [2])],
    )
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["size"], ["f"], value=numpy_helper.from_array(np.array([2], np.float16), "v")
        ),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "yes")),
        helper.make_node("If", ["yes"], ["b"], then_branch=body, else_branch=body),
        helper.make_node("EyeLike", ["square"], ["e"], dtype=half),
        helper.make_node("Add", ["f", "b"], ["s"]),
        helper.make_node("MatMul", ["s", "e"], ["m"]),
        helper.make_node("Mul", ["m", "w"], ["n"]),
        helper.make_node("CastLike", ["ids", "w"], ["k"]),
        helper.make_node("Add", ["n", "k"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "all",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", half, [2])],
        [
            numpy_helper.from_array(np.array([0.5, 2], np.float16), "w"),
            numpy_helper.from_array(np.array([2], np.int64), "size"),
            numpy_helper.from_array(np.zeros((2, 2), np.int64), "square"),
        ],
        value_info=[helper.make_tensor_value_info("m", half, [2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_nothing_of_half_precision_is_left() -> None:
    """(2 + 3 + ids) * w + ids."""
    message = with_everything()
    onnx.checker.check_model(message, full_check=True)
    assert halves_of(message) == {"FLOAT16"}
    feeds = {"ids": np.array([1, 4])}
    widen(message)
    onnx.checker.check_model(message, full_check=True)
    assert halves_of(message) == frozenset()
    assert not types_of(message) & HALVES
    made = Frozen(Form(message), ["y"], threads=1).run(feeds)["y"]
    assert made.dtype == np.float32
    assert made.tolist() == [6 * 0.5 + 1, 9 * 2 + 4]


def test_bfloat16_is_widened_to_the_same_numbers() -> None:
    message = with_everything()
    kept = np.array([1.0078125, -3.0e38], ml_dtypes.bfloat16)
    message.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, [2], kept.tobytes(), raw=True))
    assert halves_of(message) == {"FLOAT16", "BFLOAT16"}
    widen(message)
    assert numpy_helper.to_array(message.graph.initializer[0]).tolist() == [1.0078125, float(kept[1])]


@pytest.mark.parametrize("ports", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_casts_around_norms_go_and_the_rest_stays(tmp_path: Path, ports: int) -> None:
    """What autocast writes: products in half precision, norms in float32, Casts between."""
    path = save(autocast_network(width=8, layers=2, ports=ports), tmp_path / "half.onnx")
    with open_model(path) as source:
        network = read_network(source)
    assert network.halves == {"FLOAT16"}
    assert [spec.dtype for spec in network.inputs] == [np.float32]
    form = network.wide()
    wide = form.whole()
    assert halves_of(wide) == frozenset()
    casts = [node for node in wide.graph.node if node.op_type == "Cast"]
    assert len(casts) <= 1 < sum(node.op_type == "Cast" for node in network.proto.graph.node)
    onnx.checker.check_model(wide, full_check=True)
    x = np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)
    half, full = (Frozen(model, ["y"], threads=1).run({"x": x})["y"] for model in (network.form(), form))
    assert half.dtype == full.dtype == np.float32
    assert np.abs(half - full).max() <= 5e-3 * np.abs(full).max()

"""Files with faults that onnxruntime runs all the same: they are mended, and the mending is told."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx import api
from bot_onnx._onnxfile.reader import open_model
from bot_onnx.errors import GraphError, VerifyError
from tests.graphs import GraphBuilder


def perceptron(*, labels: bool = False) -> onnx.ModelProto:
    """``relu(x @ w0) @ w1`` from 20 over 64 to 5."""
    b = GraphBuilder()
    b.op("MatMul", b.op("Relu", b.op("MatMul", "x", b.weight(20, 64))), b.weight(64, 5))
    model = b.model([("x", ["n", 20])], [b.nodes[-1].output[0]])
    if labels:
        model.graph.initializer.append(helper.make_tensor("labels", TensorProto.STRING, [2], [b"cat", b"dog"]))
        model.graph.node.append(helper.make_node("Identity", ["labels"], ["names"]))
        model.graph.output.append(helper.make_tensor_value_info("names", TensorProto.STRING, [2]))
    return model


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def run(path: Path, rows: int = 3) -> list[np.ndarray]:
    x = np.random.default_rng(0).standard_normal((rows, 20)).astype(np.float32)
    return list(onnxruntime.InferenceSession(str(path)).run(None, {"x": x}))


def halved(path: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    result = api.resize(path, {"width": 0.5}, path.parent / "half.onnx")
    written = onnx.load(result.output)
    onnx.checker.check_model(written, full_check=True)
    assert run(result.output)[0].shape == (3, 5)
    return written, result.plan.notes


@pytest.mark.parametrize("listed", [(), ("w0",), ("w0", "w1")])
@pytest.mark.parametrize("opset", [8, 9, 13])
def test_weights_among_the_inputs(tmp_path: Path, listed: tuple[str, ...], opset: int) -> None:
    model = perceptron()
    model.ir_version, model.opset_import[0].version = 3, opset
    for tensor in model.graph.initializer:
        if tensor.name in listed:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    written, notes = halved(saved(tmp_path, model))
    assert written.ir_version >= 4
    assert [value.name for value in written.graph.input] == ["x"]
    assert any("IR version 3" in note for note in notes)


def test_nodes_in_any_order(tmp_path: Path) -> None:
    model = perceptron()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path = saved(tmp_path, model)
    expected = run(path)[0]
    (checker,) = (check for check in api.verify(path).checks if check.name == "checker")
    assert checker.status == "pass" and "put in order" in checker.detail
    _, notes = halved(path)
    assert any("put in order" in note for note in notes)
    grown = api.resize(path, {"width": 2.0}, tmp_path / "grown.onnx")
    np.testing.assert_allclose(run(grown.output)[0], expected, rtol=1e-4, atol=1e-5)


def test_order_within_a_body(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Relu", ["inner"], ["out"]), helper.make_node("Neg", ["a"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["out2"])],
        "else",
        [],
        [helper.make_tensor_value_info("out2", TensorProto.FLOAT, None)],
    )
    model = perceptron()
    product, relu, head = model.graph.node
    product.output[0], relu.input[0] = "a", "b"
    del model.graph.node[:]
    choice = helper.make_node("If", ["flag"], ["b"], then_branch=body, else_branch=other)
    model.graph.node.extend([choice, product, relu, head])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    with open_model(saved(tmp_path, model)) as source:
        assert [node.op_type for node in source.proto.graph.node] == ["MatMul", "If", "Relu", "MatMul"]
        (then,) = (a.g for a in source.proto.graph.node[1].attribute if a.name == "then_branch")
        assert [node.op_type for node in then.node] == ["Neg", "Relu"]


@pytest.mark.parametrize("declared", [[], [1, "s"], [7, 5], ["n", 5, 1]])
def test_an_output_that_is_not_what_was_declared(tmp_path: Path, declared: list[int | str]) -> None:
    model = perceptron()
    name = model.graph.output[0].name
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, declared))
    written, notes = halved(saved(tmp_path, model))
    first, last = written.graph.output[0].type.tensor_type.shape.dim
    assert not first.HasField("dim_value") and last.dim_value == 5
    assert any(repr(name) in note and "declared" in note for note in notes)


def test_an_output_without_a_shape(tmp_path: Path) -> None:
    model = perceptron()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    written, _ = halved(saved(tmp_path, model))
    first, last = written.graph.output[0].type.tensor_type.shape.dim
    assert not first.HasField("dim_value") and last.dim_value == 5


def test_what_is_declared_rightly_is_not_noted(tmp_path: Path) -> None:
    assert not any("declared" in note for note in halved(saved(tmp_path, perceptron()))[1])


def test_strings_are_carried_through(tmp_path: Path) -> None:
    path = saved(tmp_path, perceptron(labels=True))
    halved(path)
    assert run(tmp_path / "half.onnx")[1].tolist() == ["cat", "dog"]
    assert api.verify(tmp_path / "half.onnx", against=path).passed


def test_a_sequence_as_output_is_carried_through(tmp_path: Path) -> None:
    model = perceptron()
    head = model.graph.output[0].name
    model.graph.node.append(helper.make_node("SequenceConstruct", [head, head], ["both"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None))
    halved(saved(tmp_path, model))
    first, (one, two) = run(tmp_path / "half.onnx")
    np.testing.assert_array_equal(one, first)
    np.testing.assert_array_equal(two, first)


def test_ports_that_are_no_tensors_are_refused_by_name(tmp_path: Path) -> None:
    model = perceptron()
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None))
    model.graph.node.insert(0, helper.make_node("SequenceAt", ["x", "place"], ["first"]))
    model.graph.node[1].input[0] = "first"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "place"))
    with pytest.raises(GraphError, match=r"input 'x' .* is a sequence"):
        open_model(saved(tmp_path, model))
    model = perceptron()
    model.graph.input[0].type.tensor_type.elem_type = 0
    with pytest.raises(GraphError, match=r"input 'x'|valid model"):
        open_model(saved(tmp_path, model))
    model = perceptron()
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    zipped = helper.make_node(
        "ZipMap", [model.graph.output[0].name], ["named"], domain="ai.onnx.ml", classlabels_int64s=range(5)
    )
    model.graph.node.append(zipped)
    number = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    model.graph.output.append(helper.make_value_info("named", helper.make_sequence_type_proto(number)))
    with pytest.raises(GraphError, match=r"output 'named' .* a map"):
        open_model(saved(tmp_path, model))


@pytest.mark.parametrize("where", ["output", "value_info"])
def test_a_tensor_that_is_said_to_be_a_sequence_is_refused(where: str, tmp_path: Path) -> None:
    """The analysis would take it for a value without axes."""
    model = perceptron()
    claimed = helper.make_tensor_sequence_value_info(model.graph.output[0].name, TensorProto.FLOAT, None)
    if where == "output":
        model.graph.output[0].CopyFrom(claimed)
    else:
        claimed.name = model.graph.node[0].output[0]
        model.graph.value_info.append(claimed)
    with pytest.raises(GraphError, match=r"cannot load this model: .*seq\(tensor"):
        api.inspect(saved(tmp_path, model))


def test_strings_as_input_are_fed(tmp_path: Path) -> None:
    model = perceptron()
    model.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, ["k"]))
    model.graph.node.append(helper.make_node("Identity", ["words"], ["same"]))
    model.graph.output.append(helper.make_tensor_value_info("same", TensorProto.STRING, ["k"]))
    api.resize(saved(tmp_path, model), {"width": 0.5}, tmp_path / "half.onnx")


def test_messages_name_the_output_not_the_file_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, perceptron())
    monkeypatch.setattr(import_module("bot_onnx._verify.trial"), "Runner", _refusing)
    with pytest.raises(VerifyError) as caught:
        api.resize(path, {"width": 0.5}, tmp_path / "half.onnx")
    assert "/proc/" not in str(caught.value) and "half.onnx failed" in str(caught.value)


def _refusing(source: object, readable: str, **_: object) -> None:
    raise RuntimeError(f"Load model from {readable} failed")


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ([0.0, -np.inf, 0.0], True),
        ([1.0, np.inf, 1.0], False),
        ([0.0, np.inf, 0.0], False),
        ([1.0, -np.inf, 1.0], False),
        ([-np.inf, -np.inf, -np.inf], True),
        ([np.inf, np.inf, np.inf], False),
        ([0.5, -np.inf, 0.25], False),
        ([0.0, np.nan, 0.0], False),
        ([np.nan, np.nan, np.nan], False),
    ],
)
def test_infinities_that_are_meant(tmp_path: Path, values: list[float], meant: bool) -> None:
    model = perceptron()
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.float32), "extra"))
    with open_model(saved(tmp_path, model)) as source:
        if meant:
            source.check()
            return
        with pytest.raises(GraphError, match=r"'extra' .*--allow-nonfinite"):
            source.check()


def test_infinity_in_a_constant_of_a_node(tmp_path: Path) -> None:
    model = perceptron()
    start = helper.make_node("ConstantOfShape", ["sizes"], ["lowest"])
    start.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.array([-np.inf], np.float32))))
    model.graph.node[1].op_type = "Max"
    model.graph.node[1].input.append("lowest")
    model.graph.node.insert(1, helper.make_node("Shape", [model.graph.node[0].output[0]], ["sizes"]))
    model.graph.node.insert(2, start)
    halved(saved(tmp_path, model))

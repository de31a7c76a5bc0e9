"""Numbers that a file works out from constants: what is one, what may be a weight, and how they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import bot_onnx
from bot_onnx._analysis.passes import analyse
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save

Build = Callable[[GraphBuilder], str]


def number(b: GraphBuilder, value: float) -> str:
    return b.constant(np.array(value, np.float32))


def scaled(build: Build) -> onnx.ModelProto:
    """Two linear maps, and between them a product with what ``build`` makes."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("MatMul", "x", b.weight(5, 8)))
    y = b.op("MatMul", b.op("Mul", x, build(b)), b.weight(8, 3))
    return b.model([("x", ["n", 5])], [y])


def beside(model: onnx.ModelProto) -> float | None:
    """The constant that the Mul reads once the graph is analysed, or None."""
    graph = analyse(ir.from_proto(model)).model.graph
    *_, product = (node for node in graph if node.op_type == "Mul")
    tensor = None if product.inputs[1] is None else product.inputs[1].const_value
    return None if tensor is None else float(tensor.numpy().reshape(-1)[0])


def doubled(b: GraphBuilder, times: int) -> str:
    value = number(b, 16.0)
    for _ in range(times):
        value = b.op("Mul", b.op("Add", value, value), number(b, 0.5))
    return b.op("Sqrt", value)


CONSTANTS: dict[str, tuple[Build, float]] = {
    "root": (lambda b: b.op("Sqrt", number(b, 16.0)), 4.0),
    "whole": (lambda b: b.op("Sqrt", b.op("Cast", b.constant(np.array(16)), to=TensorProto.FLOAT)), 4.0),
    "literal": (
        lambda b: b.op("Reciprocal", b.op("Constant", value=numpy_helper.from_array(np.float32(0.3)))),
        1 / 0.3,
    ),
    "picked": (
        lambda b: b.op(
            "Sqrt", b.op("Cast", b.op("Gather", b.ints(4, 9), b.constant(np.array(1))), to=TensorProto.FLOAT)
        ),
        3.0,
    ),
    "long": (lambda b: doubled(b, 20), 4.0),
}
WEIGHTS: dict[str, Build] = {
    "temperature": lambda b: b.op("Reciprocal", number(b, 0.93)),
    "at its start": lambda b: b.op("Reciprocal", b.op("Unsqueeze", number(b, 1.0), b.ints(0))),
    "with a constant": lambda b: b.op("Mul", number(b, 0.93), b.op("Sqrt", number(b, 16.0))),
    "as long as the shape": lambda b: b.op(
        "Cast", b.op("Gather", b.op("Shape", "x"), b.constant(np.array(1))), to=TensorProto.FLOAT
    ),
}


@pytest.mark.parametrize("what", CONSTANTS)
def test_a_number_made_of_constants_is_one(what: str) -> None:
    build, wanted = CONSTANTS[what]
    assert beside(scaled(build)) == pytest.approx(wanted)


@pytest.mark.parametrize("what", WEIGHTS)
def test_what_may_be_trained_or_follows_a_shape_stays(what: str) -> None:
    assert beside(scaled(WEIGHTS[what])) is None


@pytest.mark.parametrize("what", [*CONSTANTS, *WEIGHTS])
def test_the_file_makes_it_as_its_source_did(what: str, tmp_path: Path) -> None:
    model = scaled(CONSTANTS[what][0] if what in CONSTANTS else WEIGHTS[what])
    source, out = save(model, tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"width": 2}, out).report.passed
    before, after = (Counter(node.op_type for node in onnx.load(path).graph.node) for path in (source, out))
    assert before - Counter({"Constant": 1}) == after


def test_a_chain_without_end_is_left_alone() -> None:
    assert beside(scaled(lambda b: b.op("Sqrt", doubled(b, 300)))) is None


def test_a_number_made_in_a_body_is_made_outside_of_it(tmp_path: Path) -> None:
    """What it is made of is around every body."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("MatMul", "x", b.weight(5, 8)))
    positive = b.op("Greater", b.op("ReduceMean", "x", keepdims=0), number(b, 0.0))

    def branch(name: str, kind: str) -> onnx.GraphProto:
        size = numpy_helper.from_array(np.float32(8.0), f"{name}.size")
        nodes = [
            helper.make_node("Constant", [], [f"{name}.n"], value=size),
            helper.make_node("Sqrt", [f"{name}.n"], [f"{name}.root"]),
            helper.make_node(kind, [x, f"{name}.root"], [f"{name}.y"]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)])

    y = b.op("If", positive, then_branch=branch("then", "Div"), else_branch=branch("else", "Mul"))
    model = b.model([("x", ["n", 5])], [b.op("MatMul", y, b.weight(8, 3))])
    source, out = save(model, tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"width": 2}, out).report.passed
    given = {"x": np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)}
    for sign in (1, -1):
        feed = {"x": sign * np.abs(given["x"])}
        found = [session(str(path)).run(None, feed)[0] for path in (source, out)]
        np.testing.assert_allclose(*found, rtol=0, atol=1e-5)

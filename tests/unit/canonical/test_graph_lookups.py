"""Rows of a table are looked up by Gather, however the exporter wrote it; new layers take no name that is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, residual_mlp_model, save


def looking_up(axes: int) -> onnx.ModelProto:
    """``table[ids] @ w``; the ids stand in an axis of their own, at the end or in front."""
    b = GraphBuilder()
    rows = b.op("GatherND", b.weight(7, 8, name="table"), b.op("Unsqueeze", "ids", b.ints(axes)))
    b.op("MatMul", rows, b.weight(8, 3))
    return b.model([("ids", ["batch"])], [b.nodes[-1].output[0]], integer_inputs=["ids"])


def test_a_table_indexed_row_by_row_can_change_its_width(tmp_path: Path) -> None:
    path = save(looking_up(-1), tmp_path)
    structure = bot_onnx.inspect(path).structure
    table = next(stack for stack in structure.stacks if stack.tensors == ("table",))
    rows, width = (structure.dims[axis or ""] for axis in table.axes)
    assert table.kind == "embedding" and rows.role == "vocab" and width.frozen is None
    out = tmp_path / "wide.onnx"
    bot_onnx.resize(path, {"dims": {width.name: 16}}, out, method="net2net")
    ids = np.array([0, 3, 6, -1])
    before, after = (session(str(file)).run(None, {"ids": ids})[0] for file in (path, out))
    assert np.allclose(before, after, atol=1e-5)


def test_one_part_picked_by_a_constant_is_that_part(tmp_path: Path) -> None:
    """GatherND with constant numbers of rows is the Gather that picks them, and holds no more than it."""
    b = GraphBuilder()
    parts = b.op("Transpose", b.op("Reshape", b.op("MatMul", "x", b.weight(4, 24)), b.ints(0, 3, 8)), perm=[1, 0, 2])
    one = b.op("Reshape", b.op("GatherND", parts, b.constant(np.array([[-2]]))), b.ints(-1, 8))
    b.op("MatMul", one, b.weight(8, 3))
    path = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    width = next(dim for dim in bot_onnx.inspect(path).structure.dims.values() if dim.size == 8)
    assert width.frozen is None
    assert bot_onnx.resize(path, {"dims": {width.name: 6}}, tmp_path / "out.onnx").report.passed


def test_a_name_of_a_new_layer_that_a_tensor_has_is_not_taken(tmp_path: Path) -> None:
    model = residual_mlp_model(layers=3)
    ends = [node for node in model.graph.node if node.op_type == "Add"][2::3]
    renamed = {node.output[0]: f"x.{layer}" for layer, node in enumerate(ends)} | {"w0": "x.3"}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    out = tmp_path / "deep.onnx"
    bot_onnx.resize(save(model, tmp_path), {"layers": 5}, out)
    made = onnx.load(out).graph
    names = [name for node in made.node for name in node.output] + [tensor.name for tensor in made.initializer]
    assert len(names) == len(set(names)) and "x.3" in names

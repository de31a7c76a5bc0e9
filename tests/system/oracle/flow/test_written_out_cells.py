"""Recurrent cells as exporters write them out: gates brought into another order, cells unrolled, branches on ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._reasons import Reason, Why
from bot_onnx._runs.inputs import open_sizes
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.flow.bodies import FLOAT, Body, linear

HIDDEN, WIDTH = 8, 6


def reordered(b: GraphBuilder, weight: str, hidden: int) -> str:
    """Gates ``i f g o`` cut as 1 + 1 + 2 and joined as ``i o f g``."""
    pieces = [
        b.op("Slice", weight, b.ints(first * hidden), b.ints(last * hidden), b.ints(0))
        for first, last in ((0, 1), (3, 4), (1, 3))
    ]
    return b.op("Concat", *pieces, axis=0)


def reordering(hidden: int = HIDDEN, width: int = WIDTH) -> onnx.ModelProto:
    """An LSTM whose weights are brought into the op's order of gates in the graph."""
    b = GraphBuilder()
    inputs = [b.op("MatMul", "x", b.weight(4, width))]
    for columns in (width, hidden):
        inputs.append(b.op("Unsqueeze", reordered(b, b.weight(4 * hidden, columns), hidden), b.ints(0)))
    biases = [reordered(b, b.weight(4 * hidden), hidden) for _ in range(2)]
    inputs.append(b.op("Unsqueeze", b.op("Concat", *biases, axis=0), b.ints(0)))
    made = b.op("LSTM", *inputs, hidden_size=hidden)
    return b.model([("x", ["time", "batch", 4])], [b.op("MatMul", made, b.weight(hidden, 3))], rank=4)


def unrolled(hidden: int = HIDDEN, width: int = WIDTH) -> onnx.ModelProto:
    """One step of an LSTM cell, written out; both states come in and go out in one tensor."""
    b = GraphBuilder()
    data = linear(b, "x", 4, width)
    before, memory = (b.op("Gather", "state", b.constant(np.int64(index)), axis=0) for index in (0, 1))
    gates = b.op("Add", linear(b, data, width, 4 * hidden), linear(b, before, hidden, 4 * hidden))
    b.nodes.append(onnx.helper.make_node("Split", [gates, b.ints(*[hidden] * 4)], list("ifgo"), axis=-1, name="split"))
    kept = b.op("Mul", b.op("Sigmoid", "f"), memory)
    cell = b.op("Add", kept, b.op("Mul", b.op("Sigmoid", "i"), b.op("Tanh", "g")))
    state = b.op("Mul", b.op("Sigmoid", "o"), b.op("Tanh", cell))
    after = b.op("Concat", *(b.op("Unsqueeze", value, b.ints(0)) for value in (state, cell)), axis=0)
    last = b.op("Unsqueeze", linear(b, state, hidden, 3), b.ints(0))
    return b.model([("x", ["batch", 4]), ("state", [2, "batch", hidden])], [last, after], rank=3)


@pytest.mark.parametrize("make", [reordering, unrolled])
def test_resized_equals_native(make: Any, tmp_path: Path) -> None:
    source = save(make(), tmp_path)
    out = tmp_path / "out.onnx"
    leaves = {d.size: d.name for d in analysis_of(source).structure.dims.values() if d.kind == "leaf"}
    for hidden, width in ((4, 4), (10, 12)):
        spec = {"dims": {leaves[HIDDEN]: hidden, leaves[WIDTH]: width}}
        assert bot_onnx.resize(source, spec, out, force=True).report.passed
        native = transplant(analysis_of(out), analysis_of(save(make(hidden, width), tmp_path, "native.onnx")))
        assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_reordered_gates_keep_what_they_do(tmp_path: Path) -> None:
    source = save(reordering(), tmp_path)
    stacks = [stack for stack in analysis_of(source).structure.stacks if stack.shape[0] == 4 * HIDDEN]
    assert [(s.kind, s.directions) for s in stacks[:2]] == [("matrix", ("out", "in"))] * 2
    assert {s.kind for s in stacks[2:]} == {"bias"}
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"hidden": 2 * HIDDEN}, out)
    assert distance(run_at_two_sizes(source), run_at_two_sizes(out)) <= 1e-5


def test_a_branch_on_the_rank_lines_up(tmp_path: Path) -> None:
    """``squeeze()`` as a scripted module writes it: drop the last axis if it is 1, in a branch that never runs here."""
    b = GraphBuilder()
    wide = b.op("Transpose", b.op("Relu", linear(b, "x", 4, HIDDEN)), perm=[0, 2, 1])
    last = b.op("Gather", b.op("Shape", wide), b.ints(-1))
    then, other = Body(b), Body(b)
    made = b.op(
        "If", b.op("Equal", last, b.ints(1)),
        then_branch=then.graph([(then.op("Squeeze", wide, then.ints(2)), FLOAT)]),
        else_branch=other.graph([(other.op("Identity", wide), FLOAT)]),
    )  # fmt: skip
    merged = b.op("ReduceMean", made, axes=[2], keepdims=0)
    source = save(b.model([("x", ["batch", "time", 4])], [linear(b, merged, HIDDEN, 3)]), tmp_path)
    (name,) = (d.name for d in analysis_of(source).structure.dims.values() if d.size == HIDDEN)
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"dims": {name: 2 * HIDDEN}}, out)
    assert distance(run_at_two_sizes(source), run_at_two_sizes(out)) <= 1e-5


def test_what_an_image_network_adds_to_its_input_keeps_its_channels(tmp_path: Path) -> None:
    """An output that carries an axis of an input does not make it a state."""
    b = GraphBuilder()
    inside = b.op("Relu", b.op("MatMul", "x", b.weight(4, HIDDEN)))
    model = b.model([("x", ["batch", 4])], [b.op("Add", "x", b.op("MatMul", inside, b.weight(HIDDEN, 4)))])
    frozen = [d for d in analysis_of(save(model, tmp_path)).structure.dims.values() if d.size == 4]
    assert [d.frozen for d in frozen] == [Reason(Why.INPUT)]


def test_long_signals_are_tried_where_short_ones_do_not_do(tmp_path: Path) -> None:
    b = GraphBuilder()
    wave = b.op("Conv", b.op("Unsqueeze", "wave", b.ints(1)), b.weight(HIDDEN, 1, 200), strides=[64])
    pooled = b.op("Flatten", b.op("GlobalAveragePool", wave))
    model = b.model([("wave", ["batch", "samples"])], [b.op("MatMul", pooled, b.weight(HIDDEN, 3))])
    assert {d.size for d in analysis_of(save(model, tmp_path)).structure.dims.values()} == {HIDDEN, 200, 3}


def test_an_axis_without_a_symbol_is_the_batch_where_it_is_the_first_open_one() -> None:
    specs = [
        InputSpec("input", np.dtype(np.float32), ("#0", "#1")),
        InputSpec("state", np.dtype(np.float32), (2, "#0", 16)),
    ]
    first, second = next(open_sizes(specs))
    assert first["#0"] != first["#1"] and second["#0"] != second["#1"]


def test_sizes_that_become_equal_are_no_failure(tmp_path: Path) -> None:
    """Two maps that differ in width are alike when resized to one: a chain that nobody predicted."""
    b = GraphBuilder()
    x = b.op("Relu", linear(b, "x", 4, 8))
    for before, after in ((8, 10), (10, 12), (12, 14)):
        x = b.op("Relu", linear(b, x, before, after))
    source = save(b.model([("x", ["batch", 4])], [linear(b, x, 14, 3)]), tmp_path)
    structure = analysis_of(source).structure
    assert not structure.chains
    out = tmp_path / "out.onnx"
    spec = {"dims": {d.name: 6 for d in structure.dims.values() if d.size in (8, 10, 12, 14)}}
    assert bot_onnx.resize(source, spec, out).report.passed
    assert analysis_of(out).structure.chains

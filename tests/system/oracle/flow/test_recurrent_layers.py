"""LSTM, GRU and RNN: gates stay apart, the state is one dim, growth is exact, and a native graph computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import bot_onnx
from bot_onnx._axes.dims import DimTable
from bot_onnx._axes.rules import Context, apply
from bot_onnx._axes.shape_values import ShapeValues
from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._ops import records
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

HIDDEN, WIDTH = 8, 6
TOLERANCE = 1e-5

GATES = {op.name: op.gates for op in records() if op.gates}


def recurrent_layer(
    b: GraphBuilder, kind: str, data: str, width: int, hidden: int, directions: int, state: str = "", **attributes: Any
) -> str:
    """One layer with biases (and peepholes, where the op knows them)."""
    packed = GATES[kind] * hidden
    inputs = [data, b.weight(directions, packed, width), b.weight(directions, packed, hidden)]
    inputs += [b.weight(directions, 2 * packed), "", state]
    if kind == "LSTM":
        inputs += [state, b.weight(directions, 3 * hidden)]
    while not inputs[-1]:
        inputs.pop()
    if directions == 2:
        attributes["direction"] = "bidirectional"
    return b.op(kind, *inputs, outputs=2, hidden_size=hidden, **attributes)


def stacked_model(kind: str, hidden: int = HIDDEN, layers: int = 3, directions: int = 1, width: int = WIDTH) -> Any:
    """A projection, layers of ``kind`` and a head; both directions of a layer are joined before the next."""
    b = GraphBuilder()
    x = b.op("Transpose", b.op("MatMul", "x", b.weight(4, width)), perm=[1, 0, 2])
    for layer in range(layers):
        made = recurrent_layer(b, kind, x, width if layer == 0 else directions * hidden, hidden, directions)
        x = b.op("Reshape", b.op("Transpose", made, perm=[0, 2, 1, 3]), b.ints(0, 0, -1))
    last = b.op("MatMul", x, b.weight(directions * hidden, 3))
    return b.model([("x", ["batch", "time", 4])], [last], rank=3)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", GATES)
def test_resized_equals_native(kind: str, directions: int, tmp_path: Path) -> None:
    source = save(stacked_model(kind, directions=directions), tmp_path)
    for hidden, layers in ((4, 2), (12, 4), (10, 3)):
        out = tmp_path / "out.onnx"
        result = bot_onnx.resize(source, {"hidden": hidden, "layers": {"layers": layers - 1}}, out, force=True)
        assert result.report.passed
        native = save(stacked_model(kind, hidden, layers, directions), tmp_path, "native.onnx")
        theirs = transplant(analysis_of(out), analysis_of(native))
        assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= TOLERANCE


@pytest.mark.parametrize("align", ["none", "permute"])
@pytest.mark.parametrize("kind", GATES)
def test_growing_keeps_the_function(kind: str, align: Any, tmp_path: Path) -> None:
    source = save(stacked_model(kind, directions=2), tmp_path)
    for method in ("bot", "net2net"):
        out = tmp_path / "out.onnx"
        bot_onnx.resize(source, {"hidden": 2 * HIDDEN}, out, method=method, align=align, force=True)
        assert distance(run_at_two_sizes(source), run_at_two_sizes(out)) <= TOLERANCE


def _joined(b: GraphBuilder, made: str, spelling: str, width: int, last: bool) -> str:
    """Directions and channels of a layer's result as one axis, in the words of several exporters."""
    if spelling == "squeezed":
        return b.op("Squeeze", made, b.ints(1))
    turned = b.op("Transpose", made, perm=[0, 2, 1, 3])
    if spelling == "computed" and not last:  # the last layer's target is folded, as one of its sizes is known there
        shape = b.op("Shape", turned)
        return b.op("Reshape", turned, b.op("Concat", b.op("Slice", shape, b.ints(0), b.ints(2)), b.ints(-1), axis=0))
    return b.op("Reshape", turned, b.ints(5, -1, width) if spelling == "computed" else b.ints(0, 0, -1))


def behind_a_convolution(kind: str, spelling: str, hidden: int, layers: int, width: int) -> Any:
    """Layers behind a convolution whose channels, as many as a layer gives, nothing but their repetition ties to it."""
    b = GraphBuilder()
    directions = 1 if spelling == "squeezed" else 2
    x = b.op("Relu", b.op("Conv", "x", b.weight(width, 7, 3), b.weight(width), pads=[1, 1]))
    x = b.op("Transpose", x, perm=[2, 0, 1])
    for layer in range(layers):
        taken = width if layer == 0 else directions * hidden
        made = recurrent_layer(b, kind, x, taken, hidden, directions)
        x = _joined(b, made, spelling, directions * hidden, layer == layers - 1)
        if spelling == "turned":
            x = b.op("Transpose", b.op("Transpose", x, perm=[1, 0, 2]), perm=[1, 0, 2])
    last = b.op("MatMul", x, b.weight(directions * hidden, 4))
    time: int | str = 5 if spelling == "computed" else "time"
    return b.model([("x", ["batch", 7, time])], [last], rank=3)


@pytest.mark.thorough
@pytest.mark.parametrize("spelling", ["reshaped", "squeezed", "turned", "computed"])
@pytest.mark.parametrize("kind", GATES)
def test_one_of_two_layers_equals_native(kind: str, spelling: str, tmp_path: Path) -> None:
    """Nothing repeats in what is left: its convolution may have other channels than a layer gives."""
    directions = 1 if spelling == "squeezed" else 2
    source = save(behind_a_convolution(kind, spelling, 10, 2, directions * 10), tmp_path)
    for hidden, layers in ((10, 1), (6, 1), (14, 3)):
        out = tmp_path / "out.onnx"
        assert bot_onnx.resize(source, {"layers": layers, "hidden": hidden}, out, force=True).report.passed
        wanted = behind_a_convolution(kind, spelling, hidden, layers, directions * hidden)
        theirs = transplant(analysis_of(out), analysis_of(save(wanted, tmp_path, "native.onnx")))
        assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= TOLERANCE


def test_gates_are_a_count_and_the_state_is_hidden(tmp_path: Path) -> None:
    structure = analysis_of(save(stacked_model("LSTM"), tmp_path)).structure
    weight = next(stack for stack in structure.stacks if stack.shape == (1, 4 * HIDDEN, HIDDEN))
    packed = structure.dims[weight.axes[1] or ""]
    count, hidden = (structure.dims[part] for part in packed.parts)
    assert (packed.kind, count.size, count.role, hidden.role) == ("product", 4, "count", "hidden")
    assert weight.axes[2] == hidden.id
    assert weight.directions == ("none", "out", "in")


def stateful_model(hidden: int, *, batch_first: bool) -> Any:
    """A layer whose state comes in and goes out; GRU with ``layout`` 1, or LSTM without."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, WIDTH))
    kind, layout = ("GRU", {"layout": 1}) if batch_first else ("LSTM", {})
    made = recurrent_layer(b, kind, x, WIDTH, hidden, 1, "state", **layout)
    y = b.op("MatMul", made, b.weight(hidden, 3))
    shape: list[int | str] = ["time", 1, hidden] if batch_first else [1, "batch", hidden]
    model = b.model([("x", ["time", "batch", 4]), ("state", shape)], [y, f"{made}.1"], rank=4)
    for dim, size in zip(model.graph.output[1].type.tensor_type.shape.dim, [*shape, 0], strict=True):
        dim.dim_param = str(size)
    del model.graph.output[1].type.tensor_type.shape.dim[3]
    return model


def test_a_state_among_the_inputs_follows(tmp_path: Path) -> None:
    source = save(stateful_model(HIDDEN, batch_first=False), tmp_path)
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"hidden": 4}, out)
    assert result.report.passed
    state = next(port for port in bot_onnx.inspect(out).inputs if port[0] == "state")
    assert state[2] == (1, "batch", 4)
    theirs = transplant(
        analysis_of(out), analysis_of(save(stateful_model(4, batch_first=False), tmp_path, "native.onnx"))
    )
    assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= TOLERANCE


def test_batch_first_layout_lines_up() -> None:
    """onnxruntime runs no such layer, so its axes alone are looked at, with the sizes that a run would show."""
    model = ir.from_proto(stateful_model(HIDDEN, batch_first=True))
    node = next(node for node in model.graph if node.op_type == "GRU")
    batch, time, hidden, one = (7, 5), (2, 3), (HIDDEN, HIDDEN), (1, 1)
    sizes = {
        node.inputs[0]: (batch, time, (WIDTH, WIDTH)),
        node.inputs[5]: (batch, one, hidden),
        node.outputs[0]: (batch, time, one, hidden),
        node.outputs[1]: (batch, one, hidden),
    }
    for value in node.inputs:
        if value is not None and value.const_value is not None:
            sizes[value] = tuple((int(n), int(n)) for n in value.const_value.shape.numpy())
    table = DimTable()
    observed = Observation({value.name or "": shape for value, shape in sizes.items() if value is not None}, {})
    context = Context(table, observed, ShapeValues(table.size, {}))
    apply(context, node)
    data, state, whole, final = (context.axes_of(value) for value in (node.inputs[0], node.inputs[5], *node.outputs))
    pairs = [(whole[0], data[0]), (whole[1], data[1]), (final[0], data[0]), (final[2], whole[3]), (state[2], whole[3])]
    assert all(a is not None and b is not None and table.find(a) == table.find(b) for a, b in pairs)


def test_zero_states_are_dropped_and_others_stay(tmp_path: Path) -> None:
    for fill, kept in ((0.0, 0), (0.5, 1)):
        b = GraphBuilder()
        size = b.op("Shape", "x", start=1, end=2)
        shape = b.op("Concat", b.ints(2), size, b.ints(HIDDEN), axis=0)
        zeros = b.op("Expand", b.constant(np.float32(fill)), shape)
        first = b.op("Slice", zeros, b.ints(1), b.ints(2), b.ints(0))
        made = recurrent_layer(b, "GRU", b.op("MatMul", "x", b.weight(4, WIDTH)), WIDTH, HIDDEN, 1, first)
        path = save(b.model([("x", ["time", "batch", 4])], [b.op("Relu", made)], rank=4), tmp_path)
        node = next(n for n in analysis_of(path).model.graph if n.op_type == "GRU")
        assert sum(value is not None for value in node.inputs[5:]) == kept


@pytest.mark.parametrize("batch", [1, 2100])  # of a state of more elements than a matrix
def test_zero_states_of_quantised_layers_are_dropped(batch: int, tmp_path: Path) -> None:
    """Else they are parameters of the source, and none of the floats that are written."""
    b = GraphBuilder()
    rng = np.random.default_rng(0)
    x, zeros = "x", b.constant(np.zeros((1, batch, 32), np.float32))
    for width in (4, 32, 32):
        inputs = [b.constant(rng.integers(-90, 90, (1, rows, 128)).astype(np.int8)) for rows in (width, 32)]
        scales = [b.constant(np.array([0.004], np.float32)), b.constant(np.zeros(1, np.int8))]
        made = b.op("DynamicQuantizeLSTM", x, *inputs, "", "", zeros, zeros, "", *scales, *scales,
                    domain="com.microsoft", hidden_size=32)  # fmt: skip
        x = b.op("Squeeze", made, b.ints(1))
    model = b.model([("x", ["time", batch, 4])], [b.op("MatMul", x, b.weight(32, 3))], rank=3)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    source = save(model, tmp_path)
    for hidden in (16, 64):
        result = bot_onnx.resize(source, {"hidden": hidden}, tmp_path / "out.onnx", force=True)
        assert result.report.passed
        nodes = [n for n in onnx.load(tmp_path / "out.onnx").graph.node if n.op_type == "LSTM"]
        assert len(nodes) == 3 and all(len(node.input) < 6 or not node.input[5] for node in nodes)

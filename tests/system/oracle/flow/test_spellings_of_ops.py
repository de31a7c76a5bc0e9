"""One function in several ops: what is known of an op is the same wherever it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from bot_onnx._align.permutable_dims import find_freedom
from bot_onnx._align.stream_walk import find_stream
from bot_onnx._analysis.passes import Analysis
from bot_onnx._reasons import Why
from bot_onnx._runs.demanded_sizes import demanded_sizes
from bot_onnx._runs.inputs import input_specs
from bot_onnx._surgery.widening import find_widening
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of

HIDDEN = 8


def micro(b: GraphBuilder, kind: str, *inputs: str, **attributes: object) -> str:
    """A node of onnxruntime's own domain."""
    made = b.op(kind, *inputs, **attributes)
    b.nodes[-1].domain = "com.microsoft"
    return made


def opened(model: onnx.ModelProto, folder: Path) -> Analysis:
    if any(node.domain for node in model.graph.node):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return analysis_of(save(model, folder))


def layered(b: GraphBuilder, step: object, layers: int = 3) -> str:
    """A stream, written by a linear map, to which every layer adds what ``step`` makes of it."""
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    for _ in range(layers):
        x = step(b, x)  # type: ignore[operator]
    return x


def norm(b: GraphBuilder, x: str) -> str:
    scale = b.constant(np.linspace(0.5, 1.5, HIDDEN, dtype=np.float32) ** 2)
    return b.op("LayerNormalization", x, scale, b.weight(HIDDEN))


def product(b: GraphBuilder, x: str, rows: int, columns: int, kind: str) -> str:
    if kind == "Einsum":
        return b.op("Einsum", x, b.weight(rows, columns), equation="bsi,io->bso")
    if kind == "FusedMatMul":
        return micro(b, kind, x, b.weight(columns, rows), transB=1)
    return b.op("MatMul", x, b.weight(rows, columns))


@pytest.mark.parametrize("kind", ["MatMul", "Einsum", "FusedMatMul"])
def test_every_linear_map_reads_and_writes_the_stream(kind: str, tmp_path: Path) -> None:
    def step(b: GraphBuilder, x: str) -> str:
        inner = b.op("Relu", product(b, norm(b, x), HIDDEN, 12, kind))
        return b.op("Add", x, product(b, inner, 12, HIDDEN, kind))

    b = GraphBuilder()
    y = b.op("MatMul", norm(b, layered(b, step)), b.weight(HIDDEN, 3))
    stream = find_stream(opened(b.model([("x", ["batch", "length", 4])], [y], rank=3), tmp_path))
    assert stream.obstacle is None
    assert all(len(found.readers) == 1 for found in stream.norms)


def test_a_sum_behind_another_form_of_the_sum_before_is_pre_norm(tmp_path: Path) -> None:
    def step(b: GraphBuilder, x: str) -> str:
        attended = b.op("MatMul", norm(b, x), b.weight(HIDDEN, HIDDEN))
        flat = b.op("Reshape", b.op("Add", x, attended), b.ints(-1, HIDDEN))
        inner = b.op("Relu", b.op("MatMul", norm(b, flat), b.weight(HIDDEN, 12)))
        made = b.op("Add", flat, b.op("MatMul", inner, b.weight(12, HIDDEN)))
        return b.op("Reshape", made, b.ints(-1, 6, HIDDEN))

    b = GraphBuilder()
    y = b.op("MatMul", norm(b, layered(b, step)), b.weight(HIDDEN, 3))
    structure = opened(b.model([("x", ["batch", 6, 4])], [y], rank=3), tmp_path).structure
    assert structure.residual == "pre-norm"


@pytest.mark.parametrize("kind", ["Tanh", "Softsign", "Relu", "Gelu", "FastGelu", "QuickGelu"])
def test_a_stream_widens_by_zeros_through_functions_that_keep_them(kind: str, tmp_path: Path) -> None:
    """Also under the runtime's own names."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    x = micro(b, kind, x) if kind.endswith("Gelu") else b.op(kind, x)
    spread = b.op("Sqrt", b.op("Add", b.op("ReduceMean", b.op("Mul", x, x), axes=[-1]), b.constant(np.float32(1e-5))))
    scaled = b.op("Mul", b.op("Div", x, spread), b.weight(HIDDEN, name="scale"))
    y = b.op("MatMul", scaled, b.weight(HIDDEN, 3))
    analysis = opened(b.model([("x", ["batch", 4])], [y]), tmp_path)
    hidden = next(dim.id for dim in analysis.structure.dims.values() if ("scale", 0) in dim.occurrences)
    widening = find_widening(analysis, hidden)
    assert (widening.law, widening.reason) == ("zeros", None)


@pytest.mark.parametrize("neutral", [None, "Dropout", "Flatten", "Transpose"])
def test_an_attention_is_seen_through_what_passes_its_scores_on(neutral: str | None, tmp_path: Path) -> None:
    b = GraphBuilder()
    query, key, value = (b.op("MatMul", "x", b.weight(4, HIDDEN)) for _ in range(3))
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 2, 1]))
    scores = b.op("Mul", scores, b.constant(np.float32(HIDDEN**-0.5)))
    if neutral == "Dropout":
        scores = b.op("Dropout", scores)
    elif neutral == "Flatten":
        shape = b.op("Shape", scores)
        scores = b.op("Reshape", b.op("Flatten", scores, axis=2), shape)
    elif neutral == "Transpose":
        scores = b.op("Transpose", b.op("Transpose", scores, perm=[0, 2, 1]), perm=[0, 2, 1])
    y = b.op("MatMul", b.op("MatMul", b.op("Softmax", scores, axis=-1), value), b.weight(HIDDEN, 3))
    structure = opened(b.model([("x", ["batch", "length", 4])], [y], rank=3), tmp_path).structure
    assert [dim.size for dim in structure.dims.values() if dim.role == "head_dim"] == [HIDDEN]


@pytest.mark.parametrize("kind", ["CumSum", "Bernoulli"])
def test_ops_to_which_the_order_matters(kind: str, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Sigmoid", b.op("MatMul", "x", b.weight(4, HIDDEN)))
    made = b.op("CumSum", x, b.constant(np.array(1))) if kind == "CumSum" else b.op(kind, x)
    y = b.op("MatMul", made, b.weight(HIDDEN, 3))
    freedom = find_freedom(opened(b.model([("x", ["batch", 4])], [y]), tmp_path))
    assert any((reason.kind, reason.op) == (Why.ORDERED, kind) for reason in freedom.pinned.values())


@pytest.mark.parametrize("form", ["Identity", "Transpose", "Flatten", "Clip"])
def test_an_input_that_addresses_a_table_with_one_row_in_another_form(form: str) -> None:
    b = GraphBuilder()
    bounds = [b.constant(np.array(0)), b.constant(np.array(5))] if form == "Clip" else []
    y = b.op("Gather", b.weight(1, HIDDEN), b.op(form, "ids", *bounds))
    model = b.model([("ids", ["batch", "length"])], [y], integer_inputs=["ids"], rank=3)
    assert [spec.values for spec in input_specs(model.graph)] == [1]


@pytest.mark.parametrize("kind", ["LayerNormalization", "SimplifiedLayerNormalization", "InstanceNormalization", "Mod"])
def test_sizes_that_a_weight_demands_of_an_input(kind: str) -> None:
    b = GraphBuilder()
    given = [b.weight(HIDDEN), b.weight(HIDDEN)][: 2 if kind.startswith(("Layer", "Inst")) else 1]
    model = b.model([("x", ["batch", "features"])], [b.op(kind, "x", *given)])
    assert demanded_sizes(model.graph) == {("x", 1): HIDDEN}

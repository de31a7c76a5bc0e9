"""Multiply-accumulates: of every op that has any against hand counts, of plans against what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import bot_onnx
from bot_onnx import api
from bot_onnx._ops import macs_of
from tests.graphs import GraphBuilder, residual_mlp_model, save, tied_attention_model


def counted(
    kind: str,
    inputs: list[tuple[int, ...] | None],
    outputs: list[tuple[int, ...]],
    domain: str = "",
    **attributes: object,
) -> int:
    attrs = ir.convenience.convert_attributes(attributes)
    values = [ir.Value(name=f"x{slot}") for slot in range(len(inputs))]
    node = ir.Node(domain, kind, values, attrs, num_outputs=len(outputs))
    macs = macs_of(node)
    assert macs is not None
    return macs(node, inputs, outputs)


MS = "com.microsoft"
DIGITS = Path(bot_onnx.__file__).parent / "demo" / "digits_vit.onnx"


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "settings", "wanted"),
    [
        ("MatMul", [(2, 3, 4), (4, 5)], [(2, 3, 5)], {}, 2 * 3 * 4 * 5),
        ("MatMul", [(2, 1, 3, 4), (7, 4, 5)], [(2, 7, 3, 5)], {}, 2 * 7 * 3 * 4 * 5),
        ("MatMul", [(4,), (4, 5)], [(5,)], {}, 20),
        ("Gemm", [(3, 4), (4, 5), (5,)], [(3, 5)], {}, 60),
        ("Gemm", [(4, 3), (5, 4), (5,)], [(3, 5)], {"transA": 1, "transB": 1}, 60),
        ("Conv", [(2, 6, 9, 9), (8, 3, 3, 3)], [(2, 8, 7, 7)], {"group": 2}, 2 * 8 * 49 * 3 * 9),
        ("Conv", [(1, 6, 9), (6, 1, 3)], [(1, 6, 9)], {"group": 6}, 6 * 9 * 3),
        ("ConvTranspose", [(2, 6, 5, 5), (6, 4, 2, 2)], [(2, 4, 10, 10)], {}, 2 * 6 * 25 * 4 * 4),
        ("Einsum", [(2, 3, 4), (4, 5)], [(2, 3, 5)], {"equation": "bij,jk->bik"}, 120),
        ("Einsum", [(2, 3, 4), (2, 5, 4)], [(2, 3, 5)], {"equation": "...ij,...kj->...ik"}, 120),
        ("Einsum", [(2, 3)], [(3, 2)], {"equation": "ij->ji"}, 0),
        ("LSTM", [(7, 2, 4), (1, 20, 4), (1, 20, 5)], [(7, 1, 2, 5)], {}, 7 * 2 * 20 * 9),
        ("GRU", [(7, 2, 4), (2, 15, 4), (2, 15, 5)], [(7, 2, 2, 5)], {}, 7 * 2 * 2 * 15 * 9),
        ("Attention", [(2, 4, 7, 8), (2, 2, 9, 8), (2, 2, 9, 6)], [(2, 4, 7, 6)], {}, 9 * 2 * 4 * 7 * (8 + 6)),
        ("Attention", [(2, 7, 32), (2, 9, 16), (2, 9, 12)], [(2, 7, 24)], {"q_num_heads": 4}, 9 * 2 * 7 * 56),
        ("MultiHeadAttention", [(2, 7, 32), (2, 9, 32), (2, 9, 24)], [(2, 7, 24)], {"domain": MS}, 9 * 2 * 7 * 56),
        ("GroupQueryAttention", [(2, 7, 32), (2, 7, 16), (2, 7, 16), (2, 2, 3, 8)], [(2, 7, 32)], {"domain": MS},
         2 * 10 * 448),
        ("Attention", [(2, 7, 16), (16, 48)], [(2, 7, 16)], {"domain": MS}, 14 * 16 * 48 + 7 * 14 * 32),
        ("MoE", [(3, 8), (3, 4), (4, 16, 8), None, (4, 8, 16)], [(3, 8)], {"domain": MS, "k": 2}, 3 * 2 * 2 * 128),
        ("QLinearConv", [(1, 3, 8, 8), (), (), (4, 3, 3, 3)], [(1, 4, 6, 6)], {}, 4 * 36 * 27),
        ("MatMulInteger", [(3, 4), (4, 5)], [(3, 5)], {}, 60),
        ("MatMulNBits", [(2, 3, 64), (5, 2, 16)], [(2, 3, 5)], {"domain": MS}, 2 * 3 * 5 * 64),
    ],
)  # fmt: skip
def test_an_op_costs_what_a_hand_count_says(kind, inputs, outputs, settings, wanted) -> None:
    domain = settings.pop("domain", "")
    assert counted(kind, inputs, outputs, domain, **settings) == wanted


def test_what_contracts_nothing_has_no_cost() -> None:
    for kind in ("Add", "Softmax", "LayerNormalization", "Gather", "Relu"):
        assert macs_of(helper.make_node(kind, ["x"], ["y"])) is None


def test_a_network_is_counted_at_a_batch_of_one_and_at_given_shapes(tmp_path: Path) -> None:
    path = save(residual_mlp_model(3, 8, 16), tmp_path)
    one = 4 * 8 + 3 * (2 * 8 * 16) + 8 * 3
    costs = api.inspect(path).costs
    assert (costs.inputs, costs.macs) == ({"x": (1, 4)}, one)
    assert [(part.layers, part.macs) for part in costs.parts] == [(3, 768), (0, one - 768)]
    assert costs.parameters == api.inspect(path).structure.parameters
    assert costs.weight_bytes == 4 * costs.parameters
    given = api.inspect(path, input_shapes={"x": (5, 4)}).costs
    assert (given.inputs, given.macs) == ({"x": (5, 4)}, 5 * one)


def test_attention_is_quadratic_in_the_sequence(tmp_path: Path) -> None:
    path = save(tied_attention_model(2, 2, 4), tmp_path)
    for length in (6, 24):
        costs = api.inspect(path, input_shapes={"x": (1, length, 4)}).costs
        assert costs.macs == length * (4 * 8 + 8 * 3) + 2 * (length * 64 + 2 * length * length * 8)


def grouped_convolutions() -> onnx.ModelProto:
    """Pairs of convolutions, the second by channel, and a classifier of means."""
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(16, 3, 3, 3), pads=[1, 1, 1, 1])
    for _ in range(3):
        y = b.op("Relu", b.op("Conv", x, b.weight(32, 16, 1, 1), b.weight(32)))
        y = b.op("Relu", b.op("Conv", y, b.weight(32, 1, 3, 3), group=32, pads=[1, 1, 1, 1]))
        x = b.op("Add", x, b.op("Conv", y, b.weight(16, 32, 1, 1)))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    b.op("Gemm", pooled, b.weight(16, 10))
    return b.model([("x", ["batch", 3, 12, 12])], [b.nodes[-1].output[0]])


MODELS = {
    "mlp": (lambda: residual_mlp_model(4, 16, 32), [{"hidden": 8, "layers": 2}, {"layers": 7}, {"width": 0.5}]),
    "attention": (lambda: tied_attention_model(3, 4, 4), [{"heads": 2}, {"layers": 2, "heads": 8}]),
    "cnn": (grouped_convolutions, [{"width": 0.5}, {"width": 1.5, "layers": 2}]),
    "vit": (lambda: onnx.load(DIGITS), [{"hidden": 32, "layers": 3}, {"intermediate": 96, "layers": 8}]),
}


@pytest.mark.parametrize(("name", "spec"), [(name, spec) for name, (_, specs) in MODELS.items() for spec in specs])
def test_a_plan_costs_what_the_written_file_does(name: str, spec: dict[str, object], tmp_path: Path) -> None:
    path = save(MODELS[name][0](), tmp_path)
    result = api.resize(path, spec, tmp_path / "out.onnx", method="scratch", against=False)
    planned, written = result.plan.costs, api.inspect(tmp_path / "out.onnx").costs
    assert planned is not None
    assert planned[0] == api.inspect(path).costs
    assert planned[1] == written == result.report.costs
    assert planned[1].macs != planned[0].macs and planned[1].parameters == result.plan.parameters[1]


def test_the_bytes_are_those_that_are_stored(tmp_path: Path) -> None:
    model = residual_mlp_model(2, 8, 16)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    costs = api.inspect(save(model, tmp_path)).costs
    assert costs.weight_bytes == 2 * costs.parameters

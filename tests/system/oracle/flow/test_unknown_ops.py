"""Ops without a rule: a run of the op alone says what may change; what it cannot say is frozen by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import bot_onnx
from bot_onnx._axes.rules import unknown
from bot_onnx._runs.probe import Operand, probe
from bot_onnx.errors import DimError
from tests.graphs import GraphBuilder, residual_mlp, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

INNER = 16
Middle = Callable[[GraphBuilder, str, int], str]


def with_op(middle: Middle, layers: int = 3, hidden: int = 8, inner: int = INNER) -> onnx.ModelProto:
    """``x + W2 middle(W1 norm(x))`` per layer, ``middle`` being made of the op in question."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, hidden))
    for _ in range(layers):
        normed = b.op("LayerNormalization", x, b.constant(np.ones(hidden, np.float32)))
        inside = middle(b, b.op("MatMul", normed, b.weight(hidden, inner)), inner)
        x = b.op("Add", x, b.op("MatMul", inside, b.weight(inner, hidden)))
    model = b.model([("x", ["batch", 4])], [b.op("MatMul", x, b.weight(hidden, 3))])
    model.opset_import.extend([helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.microsoft", 1)])
    return model


def binarizer(b: GraphBuilder, x: str, inner: int) -> str:
    """Element by element."""
    return b.op("Add", x, b.op("Binarizer", x, domain="ai.onnx.ml", threshold=0.1))


def normalizer(b: GraphBuilder, x: str, inner: int) -> str:
    """Divides by the norm of every row."""
    return b.op("Normalizer", x, domain="ai.onnx.ml", norm="L2")


def transposed_matmul(b: GraphBuilder, x: str, inner: int) -> str:
    """Contracts the axis with a square weight that lies the other way round."""
    return b.op("FusedGemm", x, b.weight(inner, inner), domain="com.microsoft", activation="Relu", transB=1)


def scaler(b: GraphBuilder, x: str, inner: int) -> str:
    """Holds a factor per feature in an attribute, which cannot grow."""
    return b.op("Scaler", x, domain="ai.onnx.ml", offset=[0.5] * inner, scale=[2.0] * inner)


def fourier(b: GraphBuilder, x: str, inner: int) -> str:
    """Mixes all indices."""
    spectrum = b.op("DFT", b.op("Unsqueeze", x, b.ints(2)), axis=1)
    return b.op("Squeeze", b.op("Slice", spectrum, b.ints(0), b.ints(1), b.ints(2)), b.ints(2))


def test_a_probe_tells_what_lines_up_what_is_summed_and_what_is_mixed() -> None:
    float32 = np.dtype(np.float32)
    operands = [Operand((3, 8), float32), Operand((5, 8), float32), Operand((5,), float32)]
    node = ir.node("Gemm", [ir.Value(name=name) for name in "abc"], {"transB": 1})
    node.outputs[0].name = "y"
    found = probe(node, operands, {"": 17})
    assert found is not None
    lined_up = {(alignment.inputs, alignment.outputs): alignment.problem for alignment in found}
    assert lined_up == {
        (((0, 0),), ((0, 0),)): None,
        (((0, 1), (1, 1)), ()): None,
        (((1, 0), (2, 0)), ((0, 1),)): None,
    }
    node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.35)
    found = probe(node, operands, {"": 17})
    assert found is not None
    assert [alignment.inputs for alignment in found if alignment.problem] == [((0, 1), (1, 1))]
    turned = ir.node("ReverseSequence", [ir.Value(name="x"), ir.Value(name="n")], {"batch_axis": 1, "time_axis": 0})
    turned.outputs[0].name = "y"
    lengths = Operand((2,), np.dtype(np.int64), np.array([4, 4]))
    found = probe(turned, [Operand((4, 2, 6), float32), lengths], {"": 17})
    assert found is not None
    assert {a.inputs[0]: a.problem for a in found if a.problem is None} == {(0, 2): None}


@pytest.mark.parametrize("middle", [binarizer, normalizer])
def test_an_op_that_keeps_indices_apart_is_followed(middle: Middle, tmp_path: Path) -> None:
    source = save(with_op(middle), tmp_path)
    assert analysis_of(source).context.unknown
    for spec in ({"layers": 2, "intermediate": 24, "hidden": 6}, {"intermediate": 8, "hidden": 16}):
        out = tmp_path / "out.onnx"
        assert bot_onnx.resize(source, spec, out, force=True).report.passed
        layers = spec.get("layers", 3)
        native = save(with_op(middle, layers, spec["hidden"], spec["intermediate"]), tmp_path, "native.onnx")
        theirs = transplant(analysis_of(out), analysis_of(native))
        assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= 1e-5


def test_a_sum_that_a_run_shows_keeps_the_function(tmp_path: Path) -> None:
    source = save(with_op(transposed_matmul), tmp_path)
    weights = [s for s in analysis_of(source).structure.stacks if s.shape == (INNER, INNER)]
    assert [s.kind for s in weights] == ["matrix"]
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"intermediate": 2 * INNER}, out)
    assert distance(run_at_two_sizes(source), run_at_two_sizes(out)) <= 1e-5


@pytest.mark.parametrize(
    ("middle", "reason"),
    [(scaler, "op ai.onnx.ml::Scaler .* admits no other size"), (fourier, "op DFT .* mixes the indices")],
)
def test_an_op_that_binds_a_size_freezes_it_by_name(middle: Middle, reason: str, tmp_path: Path) -> None:
    source = save(with_op(middle), tmp_path)
    frozen = [d for d in analysis_of(source).structure.dims.values() if d.size == INNER and d.frozen]
    assert frozen
    with pytest.raises(DimError, match=reason):
        bot_onnx.resize(source, {"dims": {frozen[0].name: 8}}, tmp_path / "out.onnx")
    for spec in ({"layers": 2}, {"layers": 4, "hidden": 16}):
        out = tmp_path / "out.onnx"
        assert bot_onnx.resize(source, spec, out, force=True).report.passed


def test_known_ops_are_not_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = residual_mlp()
    path = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    monkeypatch.setattr(unknown, "probe", None)
    assert not analysis_of(path).context.unknown

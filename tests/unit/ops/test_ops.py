"""What is known of ops: a record each, in one place, and nothing about them anywhere else."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from bot_onnx._axes.rules.base import RULES, rule
from bot_onnx._ops import (
    FORM,
    IN_ORDER,
    MICROSOFT,
    Move,
    find,
    is_activation,
    is_affine,
    is_linear,
    is_statistic,
    keeps_sign,
    operands_of,
    passes_on,
    record,
    records,
)
from bot_onnx._ops.registry import register

#: Ops of ONNX and of onnxruntime of which nothing is known here. The list can only become shorter.
UNKNOWN = frozenset(
    """
    com.microsoft::BeamSearch com.microsoft::BifurcationDetector com.microsoft::CDist com.microsoft::ConvStateReplay
    com.microsoft::DequantizeBFP com.microsoft::DequantizeWithOrder com.microsoft::DynamicSparseAttention
    com.microsoft::DynamicTimeWarping com.microsoft::EPContext com.microsoft::EngramGate com.microsoft::GatedDeltaNet
    com.microsoft::GatedDeltaNetStateReplay com.microsoft::GreedySearch com.microsoft::HyperConnectionLowRankMix
    com.microsoft::HyperConnectionPostMix com.microsoft::HyperConnectionPreMix com.microsoft::IsAllFinite
    com.microsoft::LinearAttentionGate com.microsoft::MRotaryEmbedding com.microsoft::Mamba2Verify
    com.microsoft::MatMulBlockQuantizedFp4Weight com.microsoft::MatMulBlockQuantizedFp8Weight
    com.microsoft::MatMulInteger16 com.microsoft::MatMulNBitsMlp com.microsoft::MatMulNBitsQLoRA
    com.microsoft::MatMulNBitsQkv com.microsoft::MoEGroupRouter com.microsoft::MoEPacked com.microsoft::MurmurHash3
    com.microsoft::NGramHashMapping com.microsoft::PackedSparseAttentionIndexer
    com.microsoft::PackedSparseAttentionIndexerMerge com.microsoft::QOrderedAttention com.microsoft::QOrderedGelu
    com.microsoft::QOrderedLayerNormalization com.microsoft::QOrderedLongformerAttention
    com.microsoft::QOrderedMatMul com.microsoft::QuantizeBFP com.microsoft::QuantizeWithOrder
    com.microsoft::RouterGateUpProj com.microsoft::SampleOp com.microsoft::Sampling com.microsoft::Snpe
    com.microsoft::SparseAttentionIndexer com.microsoft::SparsePagedAttention com.microsoft::SpeculativePrefixCommit
    com.microsoft::Tokenizer com.microsoft::VarlenCausalConvWithState com.microsoft::VarlenNGramHashMapping
    com.microsoft::WhisperBeamSearch
    """.split()
)
#: Domains of classical machine learning, of training, and of experiments: no networks.
ELSEWHERE = ("ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")


def node(op: str, *, domain: str = "", inputs: int = 1, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, [f"x{i}" for i in range(inputs)], ["y"], domain=domain, **attributes)


def test_every_op_of_onnx_has_a_record() -> None:
    schemas = onnx.defs.get_all_schemas_with_history()
    keys = {schema.name if not schema.domain else f"{schema.domain}::{schema.name}" for schema in schemas}
    missing = {key for key in keys if find(key) is None and not key.startswith(ELSEWHERE)}
    assert missing <= UNKNOWN


def test_the_list_of_unknown_ops_only_shrinks() -> None:
    assert not {key for key in UNKNOWN if find(key) is not None}
    assert len(UNKNOWN) <= 50


def test_every_op_of_the_runtime_has_a_record() -> None:
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    if not hasattr(state, "get_all_operator_schema"):
        pytest.skip("this build of onnxruntime does not tell its ops")
    keys = {f"{MICROSOFT}::{s.name}" for s in state.get_all_operator_schema() if s.domain == MICROSOFT}
    assert {key for key in keys if find(key) is None} <= UNKNOWN


def test_a_rule_for_an_op_without_a_record_is_an_error() -> None:
    with pytest.raises(KeyError, match="Frobnicate"):
        rule("my.domain::Frobnicate")(lambda context, node: None)
    assert all(find(key) is not None for key in RULES)


def test_what_is_known_of_an_op_stands_in_one_place() -> None:
    with pytest.raises(ValueError, match="MatMul"):
        register("MatMul")


def test_records_are_told_by_domain() -> None:
    assert record(node("Gelu", domain="my.domain")).function is None
    assert record(node("Gelu", domain="ai.onnx")) is record(node("Gelu"))
    assert record(node("Gelu", domain=MICROSOFT)).function == record(node("Gelu")).function


def test_a_number_of_operands_is_one_thing_or_the_other() -> None:
    assert not [op.key for op in records() if op.unary and op.variadic]
    assert not [op.key for op in records() if op.moves and op.function is not None]


def test_forms_are_told_by_what_they_do_to_the_elements() -> None:
    assert passes_on(node("Flatten"), IN_ORDER)
    assert not passes_on(node("Transpose"), IN_ORDER)
    assert passes_on(node("Transpose"), FORM)
    assert not passes_on(node("Concat", inputs=2), FORM)
    assert passes_on(node("Concat", inputs=2), FORM | Move.JOINED)
    assert not passes_on(node("Relu"))


def test_a_dropout_passes_its_input_on_unless_it_trains() -> None:
    assert passes_on(node("Dropout"))
    assert passes_on(helper.make_node("Dropout", ["x", "ratio"], ["y"]))
    assert not passes_on(helper.make_node("Dropout", ["x", "", "training"], ["y"]))
    for training, passes in ((False, True), (True, False)):
        flag = ir.Value(name="training", const_value=ir.tensor(training))
        assert passes_on(ir.Node("", "Dropout", [ir.Value(name="x"), None, flag])) is passes


def test_what_makes_no_negative_number_of_others() -> None:
    for op in ("Add", "Mul", "Max", "Concat", "Where", "ReduceMean", "GlobalMaxPool", "Gather", "DepthToSpace"):
        assert keeps_sign(node(op, inputs=2)), op
    for op in ("Sub", "Clip", "Pad", "Resize", "Neg", "Cos", "ScatterND", "MatMul"):
        assert not keeps_sign(node(op, inputs=2)), op
    assert operands_of(node("Where", inputs=3)) == (1, 2)
    assert operands_of(node("Mul", inputs=2)) == (0, 1)
    assert operands_of(node("Reshape", inputs=2)) == (0,)


def test_a_statistic_takes_whole_axes_away() -> None:
    assert is_statistic(node("ReduceMean"))
    assert is_statistic(node("GlobalAveragePool"))
    assert is_statistic(node("GroupNorm", domain=MICROSOFT, inputs=3))
    assert not is_statistic(node("AveragePool"))
    assert not is_statistic(node("ReduceSum"))


def test_an_activation_is_no_arithmetic() -> None:
    assert is_activation(node("FastGelu", domain=MICROSOFT))
    assert is_activation(node("Sigmoid"))
    assert not any(is_activation(node(op)) for op in ("Neg", "Sqrt", "Sin", "Clip", "Softmax", "Identity"))


def test_what_adds_a_bias_to_a_linear_map() -> None:
    assert all(is_affine(node(op, inputs=3)) for op in ("Gemm", "Conv", "ConvTranspose"))
    assert not is_affine(node("MatMul", inputs=2))
    assert not is_affine(node("Attention", domain=MICROSOFT, inputs=3))
    assert is_linear(node("Attention", domain=MICROSOFT, inputs=3))


def test_elements_picked_one_by_one_are_no_slices() -> None:
    assert passes_on(node("GatherND", inputs=2), FORM | Move.PICKED)
    assert not passes_on(node("GatherElements", inputs=2), FORM | Move.PICKED)

"""The proof of a resize: what it finds, what it explains, what it refuses; and that it leaves the graph as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import bot_onnx
from bot_onnx._analysis.passes import analyse
from bot_onnx._axes.rules.base import RULES, Context
from bot_onnx._proof.prover import prove
from bot_onnx._runs.runtime import session
from bot_onnx._surgery.types import Plan
from bot_onnx._target import TargetSpec, solve
from bot_onnx.errors import ProofError
from tests.graphs import GraphBuilder, residual_mlp, residual_mlp_model, save, tied_attention_model
from tests.system.oracle.sequence.graphs import cached_decoder

EXACT = 1e-5


def grown(model: onnx.ModelProto, folder: Path, spec: dict[str, Any]) -> tuple[Plan, float]:
    """The plan, and how far the grown network's outputs are from the source's, relative to their scale."""
    source, out = save(model, folder), folder / "out.onnx"
    plan = bot_onnx.resize(source, spec, out).plan
    shape = [dim.dim_value or 3 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    given = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    pairs = zip(session(str(source)).run(None, given), session(str(out)).run(None, given), strict=True)
    return plan, max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def mean_by_sum(number: float, kind: str = "Mul", hidden: int = 12) -> onnx.ModelProto:
    """What a sum over the channels makes of them, times a number or divided by it, taken off the channels."""
    b = GraphBuilder()
    channels = b.op("MatMul", "x", b.weight(5, hidden))
    total = b.op("ReduceSum", channels, b.ints(1), keepdims=1)
    centred = b.op("Sub", channels, b.op(kind, total, b.constant(np.float32(number))))
    return b.model([("x", ["n", 5])], [b.op("MatMul", b.op("Relu", centred), b.weight(hidden, 3))])


@pytest.mark.parametrize(("number", "kind"), [(1 / 12, "Mul"), (12, "Div")])
@pytest.mark.parametrize("width", [2, 3])
def test_one_over_n_behind_a_sum_follows_the_dim(number: float, kind: str, width: int, tmp_path: Path) -> None:
    plan, far = grown(mean_by_sum(number, kind), tmp_path, {"width": width})
    assert [formula.formula for formula in plan.proof.formulas] == ["1/n" if kind == "Mul" else "n"]
    assert plan.proof.status == "proven" and plan.promise.kept and far < EXACT
    patched = [patch.new for patch in plan.constants if patch.place.startswith(kind)]
    assert patched == pytest.approx([1 / (12 * width) if kind == "Mul" else 12 * width])


def variance_by_sums(hidden: int = 12) -> onnx.ModelProto:
    """A norm whose variance is the mean of the squares less the square of the mean, not below zero."""
    b = GraphBuilder()
    share = b.constant(np.float32(1 / hidden))
    channels = b.op("Relu", b.op("MatMul", "x", b.weight(5, hidden)))
    mean = b.op("Mul", b.op("ReduceSum", channels, b.ints(1), keepdims=1), share)
    squares = b.op("Mul", b.op("ReduceSum", b.op("Mul", channels, channels), b.ints(1), keepdims=1), share)
    variance = b.op("Max", b.op("Sub", squares, b.op("Mul", mean, mean)), b.constant(np.float32(0)))
    spread = b.op("Sqrt", b.op("Add", variance, b.constant(np.float32(1e-6))))
    normed = b.op("Div", b.op("Sub", channels, mean), spread)
    return b.model([("x", ["n", 5])], [b.op("MatMul", normed, b.weight(hidden, 3))])


def test_every_place_of_one_constant_follows(tmp_path: Path) -> None:
    """With one of the two means wrong the variance is below zero, and cut off: nothing may hide behind that."""
    plan, far = grown(variance_by_sums(), tmp_path, {"width": 2})
    assert [formula.formula for formula in plan.proof.formulas] == ["1/n", "1/n"] and far < EXACT


def test_one_over_n_follows_a_network_that_shrinks(tmp_path: Path) -> None:
    plan = bot_onnx.plan(save(mean_by_sum(1 / 12), tmp_path), {"width": 0.5})
    assert [patch.new for patch in plan.constants if patch.place.startswith("Mul")] == pytest.approx([1 / 6])
    assert plan.promise.kept is False and "shrinks" in plan.promise.why


def test_a_sum_that_no_constant_explains_is_kept_at_its_size_or_refused(tmp_path: Path) -> None:
    """0.3 is no formula of 12: half of a sum is another number, and weights before a Sub cannot make up for it."""
    source = save(mean_by_sum(0.3), tmp_path)
    with pytest.raises(ProofError, match=r"The proof fails for .* at Sub \(node 'node_sub3'.*--unproven") as caught:
        bot_onnx.plan(source, {"dims": {"dim_12": 24}})
    assert caught.value.fault.op == "Sub"
    with pytest.raises(ProofError, match="no dim that width scales"):
        bot_onnx.plan(source, {"width": 2})
    out = tmp_path / "out.onnx"
    plan = bot_onnx.resize(source, {"width": 2}, out, unproven=True).plan
    assert plan.proof.status == "failed" and plan.promise.kept is False
    entry = next(entry.value for entry in onnx.load(out).metadata_props if entry.key == "bot_onnx")
    assert json.loads(entry)["proof"] == "failed"


def two_branches(number: float) -> onnx.ModelProto:
    """A hidden layer that can change, and one whose sum is no mean."""
    b = GraphBuilder()
    first = b.op("MatMul", b.op("Relu", b.op("MatMul", "x", b.weight(5, 8))), b.weight(8, 6))
    total = b.op("ReduceSum", first, b.ints(1), keepdims=1)
    centred = b.op("Sub", first, b.op("Mul", total, b.constant(np.float32(number))))
    return b.model([("x", ["n", 5])], [b.op("MatMul", b.op("Relu", centred), b.weight(6, 3))])


def spread(way: str, hidden: int = 12) -> onnx.ModelProto:
    """Channels divided by their standard deviation, whose squares are summed over all and divided by one less."""
    b = GraphBuilder()
    channels = b.op("MatMul", "x", b.weight(5, hidden))
    centred = b.op("Sub", channels, b.op("ReduceMean", channels, axes=[-1], keepdims=1))
    squares = b.op("Mul", centred, centred)
    total = b.op("ReduceSum", squares, b.ints(-1), keepdims=1)
    mean = b.op("ReduceMean", squares, axes=[-1], keepdims=1)
    count, less, ratio = (b.constant(np.float32(one)) for one in (hidden, hidden - 1, hidden / (hidden - 1)))
    if way == "sum":
        variance = b.op("Div", total, less)
    elif way == "less first":
        variance = b.op("Mul", b.op("Div", mean, less), count)
    elif way == "ratio":
        variance = b.op("Mul", mean, ratio)
    elif way == "shape":
        size = b.op("ReduceProd", b.op("Gather", b.op("Shape", channels), b.ints(1), axis=0), keepdims=0)
        size = b.op("Cast", size, to=onnx.TensorProto.FLOAT)
        variance = b.op("Div", b.op("Mul", mean, size), b.op("Sub", size, b.constant(np.float32(1))))
    elif way == "moments":
        squared = b.op("ReduceMean", b.op("Mul", channels, channels), axes=[-1], keepdims=1)
        root = b.op("ReduceMean", channels, axes=[-1], keepdims=1)
        variance = b.op("Mul", b.op("Sub", squared, b.op("Mul", root, root)), ratio)
    else:
        variance = b.op("Div", b.op("Mul", mean, count), less)
    deviation = b.op("Add", b.op("Sqrt", variance), b.constant(np.float32(1e-6)))
    if way == "norm":
        length = b.op("ReduceL2", centred, axes=[-1], keepdims=1)
        deviation = b.op("Div", length, b.constant(np.float32((hidden - 1) ** 0.5)))
    normed = b.op("Div", b.op("Mul", b.weight(hidden), centred), deviation)
    return b.model([("x", ["n", 5])], [b.op("MatMul", b.op("Add", normed, b.weight(hidden)), b.weight(hidden, 3))])


SPREADS = ("mean", "sum", "less first", "ratio", "shape", "moments", "norm")


@pytest.mark.parametrize("way", SPREADS)
@pytest.mark.parametrize("hidden", [6, 24, 30])
def test_one_less_than_a_size_follows_it(way: str, hidden: int, tmp_path: Path) -> None:
    """The result is the network that is made at the new size, with the same weights."""
    plan, _ = grown(spread(way), tmp_path, {"width": hidden / 12})
    assert plan.proof.status == "proven"
    made = onnx.load(tmp_path / "out.onnx")
    weights = {tensor.name: tensor for tensor in made.graph.initializer if len(tensor.dims)}
    native = spread(way, hidden)
    for tensor in native.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(weights[tensor.name])
    given = {"x": np.random.default_rng(2).standard_normal((4, 5)).astype(np.float32)}
    found = [session(model.SerializeToString()).run(None, given)[0] for model in (made, native)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", SPREADS)
def test_a_spread_over_copies_is_kept_nearly(way: str, tmp_path: Path) -> None:
    """Twelve numbers that are all there twice deviate by the root of 22 / 23 of what they did."""
    plan, far = grown(spread(way), tmp_path, {"width": 2})
    assert plan.promise.kept is False and EXACT < far < (23 / 22) ** 0.5 - 1
    assert [note for note in plan.notes if "counts 12 less one" in note and "nearly, not exactly" in note]


def correlation(hidden: int = 16) -> onnx.ModelProto:
    """Products of all pairs of rows, divided by the root of the number of channels that they are summed over."""
    b = GraphBuilder()
    left, right = (b.op("MatMul", "x", b.weight(5, hidden)) for _ in range(2))
    pairs = b.op("MatMul", left, b.op("Transpose", right, perm=[0, 2, 1]))
    scaled = b.op("Div", pairs, b.op("Sqrt", b.constant(np.float32(hidden))))
    return b.model([("x", ["n", 4, 5])], [b.op("Add", b.op("MatMul", scaled, b.weight(4, 3)), b.weight(3))], rank=3)


@pytest.mark.parametrize("width", [0.5, 2])
def test_a_constant_that_explains_a_part_goes_before_weights_that_take_all(width: float, tmp_path: Path) -> None:
    """Whether the network grows, where weights take the rest, or shrinks, where they take nothing."""
    plan = bot_onnx.plan(save(correlation(), tmp_path), {"width": width})
    assert [patch.new for patch in plan.constants if patch.place.startswith("Div")] == pytest.approx(
        [(16 * width) ** 0.5]
    )
    assert plan.promise.kept is (width > 1)


def test_a_factor_that_no_constant_follows_is_told_of_a_network_that_shrinks(tmp_path: Path) -> None:
    source = save(softmax_of_channels(), tmp_path)
    (note,) = (note for note in bot_onnx.plan(source, {"width": 0.5}).notes if "as large" in note)
    assert "becomes 2 times as large with dim_8" in note
    assert not any("as large" in note for note in bot_onnx.plan(source, {"width": 2}).notes)


def test_what_nobody_asked_for_is_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    plan, far = grown(two_branches(0.3), tmp_path, {"width": 2})
    assert {dim.name: dim.target for dim in plan.dims if dim.source != dim.target} == {"dim_8": 16}
    assert len(plan.proof.kept) == 1 and plan.proof.kept[0].startswith("dim_6")
    assert plan.promise.kept and far < EXACT


@pytest.mark.parametrize(
    ("op", "more"),
    [("CumSum", ()), ("Hardmax", ()), ("LogSoftmax", ())],
)
def test_where_order_or_number_matters_the_dim_stays(op: str, more: tuple[str, ...], tmp_path: Path) -> None:
    b = GraphBuilder()
    hidden = b.op("MatMul", b.op("Relu", b.op("MatMul", "x", b.weight(5, 8))), b.weight(8, 6))
    inputs = [hidden, b.constant(np.array(1, np.int64))] if op == "CumSum" else [hidden]
    attributes = {} if op == "CumSum" else {"axis": 1}
    model = b.model([("x", ["n", 5])], [b.op("MatMul", b.op(op, *inputs, **attributes), b.weight(6, 3))])
    plan, far = grown(model, tmp_path, {"width": 2})
    assert {dim.name for dim in plan.dims if dim.source != dim.target} == {"dim_8"} and far < EXACT


def softmax_of_channels() -> onnx.ModelProto:
    b = GraphBuilder()
    soft = b.op("Softmax", b.op("Gemm", "x", b.weight(5, 8), b.weight(8)), axis=-1)
    return b.model([("x", ["n", 5])], [b.op("Gemm", soft, b.weight(8, 3), b.weight(3))])


def unit_vectors() -> onnx.ModelProto:
    b = GraphBuilder()
    rows = b.op("Relu", b.op("MatMul", "x", b.weight(5, 8)))
    length = b.op("ReduceL2", rows, axes=[1], keepdims=1)
    unit = b.op("Div", rows, b.op("Clip", length, b.constant(np.float32(1e-12))))
    return b.model([("x", ["n", 5])], [b.op("Gemm", unit, b.weight(8, 3), b.weight(3))])


def normalised_weights() -> onnx.ModelProto:
    """g v / |v| as a weight, the length over what is contracted."""
    b = GraphBuilder()
    hidden = b.op("Relu", b.op("MatMul", "x", b.weight(5, 8)))
    direction = b.weight(8, 3)
    unit = b.op("Div", direction, b.op("ReduceL2", direction, axes=[0], keepdims=1))
    return b.model([("x", ["n", 5])], [b.op("Gemm", hidden, b.op("Mul", unit, b.weight(1, 3)), b.weight(3))])


@pytest.mark.parametrize("build", [softmax_of_channels, unit_vectors, normalised_weights])
@pytest.mark.parametrize("width", [2, 3])
def test_weights_take_a_factor_that_an_op_leaves(build: Any, width: int, tmp_path: Path) -> None:
    plan, far = grown(build(), tmp_path, {"width": width})
    assert plan.proof.gains and plan.promise.kept and far < EXACT
    assert any(stack.gain != 1.0 for stack in plan.stacks)


def test_a_tied_autoencoder_is_right_but_does_not_keep_its_function(tmp_path: Path) -> None:
    b = GraphBuilder()
    shared = b.weight(5, 8)
    hidden = b.op("Tanh", b.op("MatMul", "x", shared))
    model = b.model([("x", ["n", 5])], [b.op("MatMul", hidden, b.op("Transpose", shared, perm=[1, 0]))])
    plan, far = grown(model, tmp_path, {"width": 2})
    assert plan.proof.status == "proven" and plan.promise.kept is False and far > 0.1


def averaged_heads() -> onnx.ModelProto:
    """Attention that also shows its weights, averaged over the heads by a constant."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, 8))

    def heads() -> str:
        return b.op(
            "Transpose", b.op("Reshape", b.op("MatMul", x, b.weight(8, 8)), b.ints(0, 0, 2, 4)), perm=[0, 2, 1, 3]
        )

    scores = b.op("MatMul", heads(), b.op("Transpose", heads(), perm=[0, 1, 3, 2]))
    weights = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(0.5))), axis=-1)
    flat = b.op("Reshape", b.op("Transpose", b.op("MatMul", weights, heads()), perm=[0, 2, 1, 3]), b.ints(0, 0, 8))
    mean = b.op("Div", b.op("ReduceSum", weights, b.ints(1), keepdims=0), b.constant(np.float32(2)))
    y = b.op("MatMul", b.op("Add", x, b.op("MatMul", flat, b.weight(8, 8))), b.weight(8, 3))
    return b.model([("x", ["n", "t", 4])], [y, mean], rank=3)


def test_attention_averaged_over_heads_stays_a_mean(tmp_path: Path) -> None:
    plan, far = grown(averaged_heads(), tmp_path, {"width": 2})
    assert {dim.role for dim in plan.dims if dim.source != dim.target} >= {"heads"}
    assert plan.promise.kept and far < EXACT
    given = {"x": np.ones((2, 5, 4), np.float32)}
    assert session(str(tmp_path / "out.onnx")).run(None, given)[1].sum(axis=-1) == pytest.approx(1.0, abs=1e-5)


def test_a_rule_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the rules for the op being right, the numbers tell: here CumSum passes for an elementwise op."""

    def elementwise(context: Context, node: ir.Node) -> None:
        context.set_axes(node.outputs[0], context.axes_of(node.inputs[0]))

    monkeypatch.setitem(RULES, "CumSum", elementwise)
    b = GraphBuilder()
    summed = b.op("CumSum", b.op("MatMul", "x", b.weight(5, 6)), b.constant(np.array(1, np.int64)))
    source = save(b.model([("x", ["n", 5])], [b.op("MatMul", summed, b.weight(6, 3))]), tmp_path)
    with pytest.raises(ProofError, match="at CumSum"):
        bot_onnx.plan(source, {"dims": {"dim_6": 12}})


@pytest.mark.parametrize(
    "model", [residual_mlp_model(5), tied_attention_model(4), mean_by_sum(1 / 12), averaged_heads(), cached_decoder(4)]
)
def test_a_proof_leaves_the_graph_as_it_was(model: onnx.ModelProto) -> None:
    analysis = analyse(ir.from_proto(model))
    before = ir.to_proto(analysis.model).SerializeToString(deterministic=True)
    proven = prove(analysis, solve(analysis.structure, TargetSpec.parse({"width": 2})).sizes)
    assert proven.proof.status == "proven" and proven.proof.values > 0
    assert ir.to_proto(analysis.model).SerializeToString(deterministic=True) == before


def test_the_cost_does_not_depend_on_size_or_depth() -> None:
    """The same nodes at the same few indices, however wide and deep the source is."""
    found = []
    for layers, hidden in ((3, 8), (12, 64)):
        analysis = analyse(ir.from_proto(residual_mlp_model(layers, hidden, 2 * hidden)))
        proven = prove(analysis, {d.id: 2 * d.size for d in analysis.structure.dims.values()})
        assert proven.miniature is not None
        found.append((proven.proof.nodes, sum(array.size for array in proven.miniature.weights.values())))
    assert found[0][0] == found[1][0] and found[0][1] == pytest.approx(found[1][1], rel=0.5)


def test_depth_alone_needs_no_proof_and_is_promised(tmp_path: Path) -> None:
    plan, far = grown(residual_mlp_model(3), tmp_path, {"layers": 5})
    assert plan.proof.status == "nothing to prove" and plan.promise.kept and far < EXACT


@pytest.mark.parametrize("times", [1.0, 1e6])
def test_an_output_that_rounding_alone_changes_is_promised_to_nobody(times: float, tmp_path: Path) -> None:
    """The sine of a large number: what the last place of the weights leaves is all of it."""
    b = residual_mlp()
    y = b.op("Sin", b.op("Mul", b.nodes[-1].output[0], b.constant(np.float32(times))))
    plan = bot_onnx.plan(save(b.model([("x", ["batch", 4])], [y]), tmp_path), {"width": 2})
    assert plan.proof.status == "proven" and plan.promise.kept is (times == 1.0)
    assert ("rounding weights in their last place alone" in plan.promise.why) is (times > 1.0)


@pytest.mark.parametrize("kind", ["RandomUniformLike", "RandomNormalLike", "Bernoulli"])
def test_random_numbers_whose_type_nobody_declares(kind: str, tmp_path: Path) -> None:
    """Their type is that of what they are like, which the ops before it tell."""
    b = GraphBuilder()
    bounded = b.op("Sigmoid", "x")
    noisy = b.op("Add", "x", b.op(kind, bounded))
    b.op("MatMul", b.op("Relu", b.op("MatMul", noisy, b.weight(4, 8, name="w.1"))), b.weight(8, 3, name="w.2"))
    source = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    plan = bot_onnx.plan(source, {"width": 0.5})
    assert plan.proof.status == "proven"


def test_layers_whose_experts_are_picked_are_added_without_a_trace(tmp_path: Path) -> None:
    """What writes to the sum is the part of a parameter that a router names."""
    b, hidden, inner, experts = GraphBuilder(), 8, 12, 3
    x = b.op("MatMul", "x", b.weight(4, hidden))
    for layer in range(2):
        normed = b.op("LayerNormalization", x, b.weight(hidden), b.weight(hidden))
        picked = b.op("ArgMax", b.op("MatMul", normed, b.weight(hidden, experts)), axis=-1, keepdims=0)
        row = b.op("Unsqueeze", normed, b.ints(2))
        made = b.op("MatMul", row, b.op("Gather", b.weight(experts, hidden, inner, name=f"up.{layer}"), picked))
        down = b.op("Gather", b.weight(experts, inner, hidden, name=f"down.{layer}"), picked)
        x = b.op("Add", x, b.op("Squeeze", b.op("MatMul", b.op("Relu", made), down), b.ints(2)))
    b.op("MatMul", x, b.weight(hidden, 3))
    model = b.model([("x", ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)
    plan, difference = grown(model, tmp_path, {"layers": 4})
    assert plan.promise.kept
    assert difference < EXACT

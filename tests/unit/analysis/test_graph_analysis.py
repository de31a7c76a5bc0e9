"""What the analysis finds in graphs made by hand, and what a resize makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx.errors import BotError, DimError, SpecError
from tests.graphs import GraphBuilder, residual_mlp, residual_mlp_model, save, tied_attention_model


def analysed(model: onnx.ModelProto, folder: Path) -> Analysis:
    with open_model(save(model, folder)) as source:
        return analyse(source.model())


def test_residual_mlp(tmp_path: Path) -> None:
    structure = analysed(residual_mlp_model(layers=3), tmp_path).structure
    assert [(chain.count, chain.period) for chain in structure.chains] == [(3, 1)]
    assert structure.residual == "pre-norm"
    named = {dim.role: dim.size for dim in structure.dims.values()}
    assert named["hidden"] == 8 and named["intermediate"] == 16
    writers = [stack for stack in structure.stacks if stack.writes_residual]
    assert [stack.kind for stack in writers] == ["matrix", "bias"]


def test_equal_widths_stay_apart(tmp_path: Path) -> None:
    """hidden and intermediate have the same size here, and are two dims all the same."""
    analysis = analysed(residual_mlp_model(hidden=8, inner=8), tmp_path)
    hidden, inner = (
        next(d for d in analysis.structure.dims.values() if d.role == r) for r in ("hidden", "intermediate")
    )
    assert hidden.size == inner.size and hidden.id != inner.id


def test_one_bias_shared_by_unrelated_axes(tmp_path: Path) -> None:
    """Exporters share equal small tensors; that ties nothing."""
    b = residual_mlp(hidden=8, inner=8)
    zero = b.constant(np.zeros(8, np.float32), "zero")
    for node in b.nodes:
        if node.op_type == "Add" and node.input[1].startswith("w"):
            node.input[1] = zero
    used = {name for node in b.nodes for name in node.input}
    b.tensors = [tensor for tensor in b.tensors if tensor.name in used]
    structure = analysed(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path).structure
    assert len({d.id for d in structure.dims.values() if d.role in ("hidden", "intermediate")}) == 2


def test_hidden_tied_to_heads_is_a_product(tmp_path: Path) -> None:
    source = save(tied_attention_model(), tmp_path)
    structure = bot_onnx.inspect(source).structure
    hidden = next(d for d in structure.dims.values() if d.role == "hidden")
    assert hidden.kind == "product" and [structure.dims[p].size for p in hidden.parts] == [2, 4]
    with pytest.raises(SpecError, match=r"hidden.*heads|heads.*hidden"):
        bot_onnx.plan(source, {"hidden": 16, "heads": 2, "head_dim": 4})
    out = tmp_path / "wide.onnx"
    assert bot_onnx.resize(source, {"hidden": 16}, out).report.passed
    sizes = {d.role: d.size for d in bot_onnx.inspect(out).structure.dims.values()}
    assert (sizes["hidden"], sizes["heads"], sizes["head_dim"]) == (16, 4, 4)


def test_an_unexplained_scale_is_an_error_that_asks(tmp_path: Path) -> None:
    """A factor of attention scores that no formula explains is never carried over in silence."""
    model = tied_attention_model(heads=2, head_dim=4)
    for tensor in model.graph.initializer:
        if not tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32((4 * 3) ** -0.5), tensor.name))
    source = save(model, tmp_path)
    assert bot_onnx.plan(source, {"heads": 4}).constants is not None  # head_dim stays: nothing to explain
    with pytest.raises(DimError, match="no known formula") as caught:
        bot_onnx.plan(source, {"head_dim": 8})
    nodes = [name for name in str(caught.value).split("'") if name.startswith("node_mul")]
    scales = [node.name for node in model.graph.node if node.op_type == "Mul"]
    assert nodes and nodes[0] in scales
    spec = {"head_dim": 8, "constants": dict.fromkeys(scales, "1/sqrt(head_dim*3)")}
    patches = [p.new for p in bot_onnx.plan(source, spec).constants if "Mul" in p.place]
    assert patches == pytest.approx([24**-0.5] * len(scales))


@pytest.mark.parametrize(("factor", "wanted"), [(8**0.5, 4.0), (8**-0.5, 0.25), (3.0, None)])
def test_a_root_of_hidden_on_the_embeddings_follows_hidden(factor: float, wanted: float | None, tmp_path: Path) -> None:
    """Some networks scale their embeddings by sqrt(hidden); any other factor is a constant."""
    b = residual_mlp(hidden=8)
    b.nodes[0].CopyFrom(onnx.helper.make_node("Gather", [b.weight(11, 8), "x"], ["rows"], name="table"))
    scaled = onnx.helper.make_node("Mul", ["rows", b.constant(np.float32(factor))], ["matmul0"], name="scale")
    b.nodes.insert(1, scaled)
    used = {name for node in b.nodes for name in node.input}
    b.tensors = [tensor for tensor in b.tensors if tensor.name in used]
    model = b.model([("x", ["batch", "sequence"])], [b.nodes[-1].output[0]], integer_inputs=["x"], rank=3)
    patches = [p.new for p in bot_onnx.plan(save(model, tmp_path), {"hidden": 16}).constants if "scale" in p.place]
    assert patches == ([pytest.approx(wanted)] if wanted else [])


def test_an_op_without_a_rule_freezes_its_dims_by_name(tmp_path: Path) -> None:
    """Depth still changes around it; the width that it touches is refused, and the message names the op."""
    b = residual_mlp(hidden=8)
    head = b.nodes.pop()
    grid = b.op("Reshape", head.input[0], b.ints(-1, 8, 1, 1))
    columns = b.op("Col2Im", b.op("Reshape", grid, b.ints(-1, 8, 1)), b.ints(2, 1), b.ints(2, 1))
    b.op("MatMul", b.op("Reshape", columns, b.ints(-1, 8)), head.input[1])
    source = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]], opset=18), tmp_path)
    with pytest.raises(DimError, match="Col2Im"):
        bot_onnx.plan(source, {"hidden": 16})
    out = tmp_path / "deep.onnx"
    assert bot_onnx.resize(source, {"layers": 5}, out).report.passed


@pytest.mark.parametrize("target", [1, 2, 5])
def test_depth_of_a_hand_made_chain(target: int, tmp_path: Path) -> None:
    source = save(residual_mlp_model(layers=3), tmp_path)
    out = tmp_path / "deep.onnx"
    result = bot_onnx.resize(source, {"layers": target}, out)
    assert result.report.passed
    weights = [node for node in onnx.load(out).graph.node if node.op_type == "Relu"]
    assert len(weights) == target


def test_an_output_inside_a_removed_layer_is_refused(tmp_path: Path) -> None:
    b = residual_mlp(layers=3)
    inner = [node.output[0] for node in b.nodes if node.op_type == "Relu"]
    source = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0], inner[-1]]), tmp_path)
    out = tmp_path / "small.onnx"
    with pytest.raises(BotError, match="inside of a layer"):
        bot_onnx.resize(source, {"layers": 2}, out)
    assert not out.exists()


def test_a_long_way_to_a_shape_is_no_path(tmp_path: Path) -> None:
    """What only shape arithmetic reads leads nowhere, however long it is: the layers end at the output."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, 8))
    for _ in range(2):
        inner = b.op("MatMul", x, b.weight(8, 16))
        aside = inner
        for _ in range(6):
            aside = b.op("Abs", aside)
        wide = b.op("Reshape", inner, b.op("Shape", aside))
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", wide), b.weight(16, 8)))
    out = b.op("MatMul", x, b.weight(8, 3))
    structure = analysed(b.model([("x", ["batch", 4])], [out]), tmp_path).structure
    assert [chain.count for chain in structure.chains] == [2]


def test_no_repeated_layers(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.op("MatMul", b.op("Tanh", b.op("MatMul", "x", b.weight(4, 6))), b.weight(6, 3))
    source = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    assert not bot_onnx.inspect(source).structure.chains
    with pytest.raises(SpecError, match="layers"):
        bot_onnx.plan(source, {"layers": 2})


def test_an_appended_layer_takes_no_name_of_an_initializer(tmp_path: Path) -> None:
    """Layers whose nodes count on (h.1 -> h.2) may run into a weight that is called so already."""
    b = residual_mlp(layers=2)
    model = b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])
    numbers = {"Relu": iter((1, 2))}
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Relu":
            renamed[node.output[0]] = f"h.{next(numbers['Relu'])}"
    assert len(renamed) == 2
    renamed[model.graph.initializer[0].name] = "h.3"
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    model.graph.initializer[0].name = "h.3"
    source = save(model, tmp_path)
    result = bot_onnx.resize(source, {"layers": 3}, tmp_path / "out.onnx")
    assert result.report.passed

"""Dims that ``width`` leaves alone, and axes that a pool leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import bot_onnx
from bot_onnx._structure import Dim
from tests.graphs import GraphBuilder, save

ONES = np.ones(8, np.float32)
SEQUENCE = (7,)  # of a network whose length is written into it


def memory_model(layers: int = 2, hidden: int = 8, state: int = 4) -> onnx.ModelProto:
    """Layers that write to a memory ``[hidden, state]`` and read it again: linear attention without a Softmax."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    for _ in range(layers):
        keys, queries = (b.op("MatMul", x, b.weight(hidden, state)) for _ in range(2))
        written = b.op("MatMul", b.op("Transpose", keys, perm=[0, 2, 1]), b.op("MatMul", x, b.weight(hidden, hidden)))
        x = b.op("Add", x, b.op("MatMul", b.op("MatMul", queries, written), b.weight(hidden, hidden)))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


def pooled_model(hidden: int = 8) -> onnx.ModelProto:
    """A pool over the sequence, hidden being an axis of the image with windows of one element."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("MatMul", "x", b.weight(3, hidden)))
    image = b.op("Unsqueeze", x, b.ints(1))
    pooled = b.op("AveragePool", image, kernel_shape=[2, 1], strides=[2, 1], ceil_mode=1)
    x = b.op("MatMul", b.op("Squeeze", pooled, b.ints(1)), b.weight(hidden, 5))
    return b.model([("x", ["batch", "sequence", 3])], [x], rank=3)


def dims(path: Path) -> list[Dim]:
    return list(bot_onnx.inspect(path).structure.dims.values())


def grown(path: Path, factor: float = 2.0) -> Path:
    out = path.with_name("grown.onnx")
    bot_onnx.resize(path, {"width": factor}, out, method="net2net", options={"mapping": "cyclic"})
    return out


def outputs(path: Path) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0])


def test_what_two_activations_contract_is_a_state_that_width_keeps(tmp_path: Path) -> None:
    source = save(memory_model(), tmp_path)
    assert [dim.size for dim in dims(source) if dim.role == "state"] == [4]
    result = grown(source)
    assert [dim.size for dim in dims(result) if dim.role == "state"] == [4]
    assert [dim.size for dim in dims(result) if dim.role == "hidden"] == [16]
    np.testing.assert_allclose(outputs(result), outputs(source), rtol=1e-4, atol=1e-5)


def test_a_state_can_be_asked_for_by_name(tmp_path: Path) -> None:
    source = save(memory_model(), tmp_path)
    name = next(dim.name for dim in dims(source) if dim.role == "state")
    out = tmp_path / "wider.onnx"
    bot_onnx.resize(source, {"dims": {name: 6}}, out)
    assert [dim.size for dim in dims(out) if dim.role == "state"] == [6]


def test_an_axis_on_which_a_pool_has_windows_of_one_element_can_be_resized(tmp_path: Path) -> None:
    source = save(pooled_model(), tmp_path)
    np.testing.assert_allclose(outputs(grown(source)), outputs(source), rtol=1e-4, atol=1e-5)


def tokens_model(hidden: int = 8, tokens: int = 5) -> onnx.ModelProto:
    """Learned tokens, joined to the sequence before an attention over all of it."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    first = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1))
    learned = b.op("Expand", b.weight(1, tokens, hidden), b.op("Concat", first, b.ints(tokens, hidden), axis=0))
    x = b.op("Concat", learned, x, axis=1)
    queries, keys = (b.op("MatMul", x, b.weight(hidden, 4)) for _ in range(2))
    shares = b.op("Softmax", b.op("MatMul", queries, b.op("Transpose", keys, perm=[0, 2, 1])), axis=-1)
    x = b.op("MatMul", b.op("MatMul", shares, b.op("MatMul", x, b.weight(hidden, 4))), b.weight(4, 5))
    return b.model([("x", ["batch", "sequence", 3])], [x], rank=3)


def test_a_number_of_learned_tokens_is_no_width(tmp_path: Path) -> None:
    source, out = save(tokens_model(), tmp_path), tmp_path / "wide.onnx"
    assert [dim.size for dim in dims(source) if dim.role == "tokens"] == [5]
    bot_onnx.resize(source, {"width": 0.5}, out)
    assert [dim.size for dim in dims(out) if dim.role == "tokens"] == [5]


def shifted_model(hidden: int = 8, rows: int = 11) -> onnx.ModelProto:
    """One table looked up twice: by ids that were shifted, and then by the ids themselves."""
    b = GraphBuilder()
    table = b.weight(rows, hidden)
    start = b.op("Mul", b.op("Slice", "ids", b.ints(0), b.ints(1), b.ints(1)), b.ints(0))
    shifted = b.op("Concat", start, b.op("Slice", "ids", b.ints(0), b.ints(-1), b.ints(1)), axis=1)
    x = b.op("Add", b.op("Gather", table, shifted), b.op("Gather", table, "ids"))
    x = b.op("MatMul", x, b.weight(hidden, 5))
    return b.model([("ids", ["batch", "sequence"])], [x], integer_inputs=["ids"], rank=3)


def test_a_table_that_an_input_looks_up_has_a_vocabulary_whatever_else_looks_it_up(tmp_path: Path) -> None:
    assert [dim.size for dim in dims(save(shifted_model(), tmp_path)) if dim.role == "vocab"] == [11]


def gated_model(layers: int = 2, hidden: int = 8, inner: int = 4) -> onnx.ModelProto:
    """Layers with a gate per position: the sum of some numbers that a matrix makes."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    for _ in range(layers):
        gate = b.op("Sigmoid", b.op("ReduceSum", b.op("MatMul", x, b.weight(hidden, inner)), b.ints(-1), keepdims=1))
        x = b.op("Add", x, b.op("Mul", gate, b.op("MatMul", x, b.weight(hidden, hidden))))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


def test_what_is_summed_over_without_weights_is_a_state(tmp_path: Path) -> None:
    source = save(gated_model(), tmp_path)
    assert [dim.size for dim in dims(source) if dim.role == "state"] == [4]
    np.testing.assert_allclose(outputs(grown(source)), outputs(source), rtol=1e-4, atol=1e-5)


def stretched_model(hidden: int = 8, rows: int = 6) -> onnx.ModelProto:
    """A table of positions that is stretched to the length of the sequence, its width being an axis of the image."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    length = b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2))
    sizes = b.op("Concat", b.ints(1, 1), length, b.ints(hidden), axis=0)
    none = b.constant(np.zeros(0, np.float32))
    table = b.op("Resize", b.weight(1, 1, rows, hidden), none, none, sizes, mode="linear")
    x = b.op("Relu", b.op("Add", x, b.op("Squeeze", table, b.ints(1))))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


def test_features_beside_the_positions_that_are_resized_can_change(tmp_path: Path) -> None:
    source = save(stretched_model(), tmp_path)
    np.testing.assert_allclose(outputs(grown(source)), outputs(source), rtol=1e-4, atol=1e-5)


def test_a_norm_without_weights_keeps_its_ones(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 8))
    for _ in range(2):
        ones = helper.make_node("Constant", [], [f"ones{len(b.nodes)}"], value=numpy_helper.from_array(ONES))
        b.nodes.append(ones)
        normed = b.op("LayerNormalization", x, ones.output[0])
        x = b.op("Add", x, b.op("MatMul", normed, b.weight(8, 8)))
    source = save(b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(8, 5))], rank=3), tmp_path)
    out = tmp_path / "narrow.onnx"
    bot_onnx.resize(source, {"width": 0.5}, out)
    written = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer}
    assert [list(array) for name, array in written.items() if name.startswith("ones")] == [[1.0] * 4] * 2


def cut_table_model(hidden: int = 8, rows: int = 40) -> onnx.ModelProto:
    """A table of features per position that is cut to the length of the sequence before a matrix reads it."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    length = b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2))
    features = b.op("Slice", b.weight(1, rows, 6), b.ints(0), length, b.ints(1))
    x = b.op("Relu", b.op("Add", x, b.op("MatMul", features, b.weight(6, hidden))))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


def test_the_length_of_a_table_that_is_cut_to_the_sequence_is_no_width(tmp_path: Path) -> None:
    source = save(cut_table_model(), tmp_path)
    assert [dim.size for dim in dims(source) if dim.role == "tokens"] == [40]
    assert [dim.size for dim in dims(grown(source)) if dim.role == "tokens"] == [40]


def odd_split_model(heads: int = 4, head_dim: int = 6) -> onnx.ModelProto:
    """A shape computed from a size that does not follow heads: it is overwritten where a Reshape reads it."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, heads * head_dim))
    rows = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(2))
    count = b.op("Div", b.op("Slice", b.op("Shape", x), b.ints(2), b.ints(3)), b.ints(head_dim))
    split = b.op("Reshape", x, b.op("Concat", rows, count, b.ints(head_dim), axis=0))
    x = b.op("Einsum", split, b.weight(heads, head_dim, 5), equation="bsnd,ndo->bso")
    return b.model([("x", ["batch", "sequence", 3])], [x], rank=3)


def test_a_file_that_was_resized_can_be_resized_again(tmp_path: Path) -> None:
    source = save(odd_split_model(), tmp_path)
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    free = {dim.size: dim.name for dim in dims(source) if dim.frozen is None}
    bot_onnx.resize(source, {"dims": {free[6]: 3, free[4]: 2}}, once)
    again = {dim.size: dim.name for dim in dims(once) if dim.frozen is None}
    bot_onnx.resize(once, {"dims": {again[3]: 6, again[2]: 8}}, twice)
    nodes = [node.name for node in onnx.load(twice).graph.node]
    assert len(nodes) == len(set(nodes)) and outputs(twice).shape == (2, 7, 5)


def repeated_mask_model(layers: int = 2, hidden: int = 8, heads: int = 2) -> onnx.ModelProto:
    """Attention without a Softmax in batch x heads, a mask being repeated once a head by a OneHot of repeats."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    mask = b.op("Sigmoid", b.op("ReduceMax", "x", axes=[2], keepdims=0))
    for _ in range(layers):
        split = [
            b.op("Reshape", b.op("MatMul", x, b.weight(hidden, hidden)), b.ints(0, 0, heads, hidden // heads))
            for _ in range(3)
        ]
        count = b.op("Slice", b.op("Shape", split[0]), b.ints(2), b.ints(3))
        parts = [b.op("Transpose", part, perm=[0, 2, 1, 3]) for part in split]
        flat = [b.op("Reshape", part, b.ints(-1, *SEQUENCE, hidden // heads)) for part in parts]
        repeats = b.op("OneHot", b.ints(1), b.constant(np.array(3)), b.op("Concat", b.ints(1), count, axis=0))
        masks = b.op("Tile", b.op("Unsqueeze", mask, b.ints(1)), b.op("Reshape", repeats, b.ints(-1)))
        masks = b.op("Reshape", masks, b.ints(-1, *SEQUENCE, 1))
        score = b.op("Abs", b.op("MatMul", flat[0], b.op("Transpose", flat[1], perm=[0, 2, 1])))
        mixed = b.op("MatMul", score, b.op("Mul", flat[2], masks))
        back = b.op(
            "Transpose", b.op("Reshape", mixed, b.ints(-1, heads, *SEQUENCE, hidden // heads)), perm=[0, 2, 1, 3]
        )
        joined = b.op("Reshape", back, b.ints(0, 0, hidden))
        x = b.op("Add", x, b.op("MatMul", joined, b.weight(hidden, hidden)))
    return b.model([("x", ["batch", *SEQUENCE, 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


def test_heads_of_an_attention_without_softmax_follow_repeats_written_as_a_one_hot(tmp_path: Path) -> None:
    source = save(repeated_mask_model(), tmp_path)
    sizes = {dim.role: dim.size for dim in dims(source)}
    assert (sizes["heads"], sizes["state"]) == (2, 4)
    result = grown(source)
    assert {dim.role: dim.size for dim in dims(result)}["heads"] == 4
    np.testing.assert_allclose(outputs(result), outputs(source), rtol=1e-4, atol=1e-5)


def mixed_tokens_model(hidden: int = 8, tokens: int = 5) -> onnx.ModelProto:
    """Learned tokens that an attention attends to, and a matrix that mixes them before."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    learned = b.op("Add", b.weight(1, tokens, hidden), b.op("ReduceMean", x, axes=[1], keepdims=1))
    turned = b.op("MatMul", b.op("Transpose", learned, perm=[0, 2, 1]), b.weight(tokens, tokens))
    learned = b.op("Add", learned, b.op("Transpose", turned, perm=[0, 2, 1]))
    queries = b.op("MatMul", x, b.weight(hidden, 4))
    keys, values = (b.op("MatMul", learned, b.weight(hidden, 4)) for _ in range(2))
    shares = b.op("Softmax", b.op("MatMul", queries, b.op("Transpose", keys, perm=[0, 2, 1])), axis=-1)
    x = b.op("MatMul", b.op("MatMul", shares, values), b.weight(4, 5))
    return b.model([("x", ["batch", "sequence", 3])], [x], rank=3)


def test_tokens_that_a_matrix_mixes_are_no_width_where_an_attention_attends_to_them(tmp_path: Path) -> None:
    source = save(mixed_tokens_model(), tmp_path)
    assert [dim.size for dim in dims(source) if dim.role == "tokens"] == [5]
    np.testing.assert_allclose(outputs(grown(source)), outputs(source), rtol=1e-4, atol=1e-5)

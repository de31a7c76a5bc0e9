"""Axes that count things (distances, buckets, codewords) keep their size, and nothing else is held with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import bot_onnx
from bot_onnx._reasons import Why
from bot_onnx._structure import Dim
from bot_onnx.errors import BotError
from tests.graphs import GraphBuilder, save


def dims(path: Path) -> dict[int, Dim]:
    return {dim.size: dim for dim in bot_onnx.inspect(path).structure.dims.values() if not dim.parts}


def check_growth(source: Path, shape: tuple[int, ...]) -> None:
    """Twice the width computes the same; the counts are what they were."""
    out = source.with_name("wide.onnx")
    bot_onnx.resize(source, {"width": 2.0}, out, method="net2net", options={"mapping": "cyclic"})
    counts = sorted(dim.size for dim in dims(source).values() if dim.role == "count")
    assert counts == sorted(dim.size for dim in dims(out).values() if dim.role == "count")
    fed = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    before, after = (onnxruntime.InferenceSession(str(path)).run(None, fed)[0] for path in (source, out))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def distances_model(hidden: int = 8, distances: int = 21) -> onnx.ModelProto:
    """Logits for distances that a matrix makes, of which every position takes some by number."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    logits = b.op("MatMul", x, b.weight(hidden, distances))
    length = b.op("Squeeze", b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2)))
    places = b.op("Range", b.constant(np.array(0)), length, b.constant(np.array(1)))
    wanted = b.op("Mul", b.op("Shape", logits), b.ints(1, 1, 0))
    indices = b.op(
        "Expand",
        places,
        b.op("Concat", b.op("Slice", wanted, b.ints(0), b.ints(2)), b.op("Unsqueeze", length, b.ints(0)), axis=0),
    )
    chosen = b.op("ReduceMean", b.op("GatherElements", logits, indices, axis=2), axes=[2])
    x = b.op("MatMul", b.op("Mul", x, chosen), b.weight(hidden, 5))
    return b.model([("x", ["batch", "sequence", 3])], [x], rank=3)


def test_what_is_addressed_by_computed_positions_is_a_count(tmp_path: Path) -> None:
    source = save(distances_model(), tmp_path)
    assert dims(source)[21].role == "count" and dims(source)[8].frozen is None
    check_growth(source, (2, 7, 3))


def buckets_model(hidden: int = 8, buckets: int = 6, heads: int = 4) -> onnx.ModelProto:
    """A table by buckets of distances, looked up by indices that are computed."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, hidden))
    for _ in range(2):
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(hidden, 10))), b.weight(10, hidden)))
    indices = b.op(
        "Cast",
        b.op(
            "Clip", b.op("ReduceMax", "x", axes=[2], keepdims=0), b.constant(np.float32(0)), b.constant(np.float32(2))
        ),
        to=7,
    )
    looked = b.op("Gather", b.weight(buckets, heads), indices)
    x = b.op("Add", b.op("MatMul", x, b.weight(hidden, 5)), b.op("MatMul", looked, b.weight(heads, 5)))
    return b.model([("x", ["batch", "sequence", 3])], [x], rank=3)


def test_buckets_of_a_table_are_a_count(tmp_path: Path) -> None:
    source = save(buckets_model(), tmp_path)
    assert dims(source)[6].role == "count"
    check_growth(source, (2, 7, 3))


def test_a_sine_of_activations_times_a_weight_is_no_rotary_table(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 8))
    x = b.op("Add", x, b.op("Sin", b.op("Mul", b.weight(1, 1, 8), x)))
    source = save(b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(8, 5))], rank=3), tmp_path)
    assert dims(source)[8].frozen is None
    check_growth(source, (2, 7, 3))


def test_a_batch_that_must_be_even_is_found(tmp_path: Path) -> None:
    b = GraphBuilder()
    pairs = b.op("Reshape", b.op("MatMul", "x", b.weight(3, 8)), b.ints(-1, 2, 8))
    x = b.op("MatMul", b.op("ReduceMean", pairs, axes=[1], keepdims=0), b.weight(8, 5))
    source = save(b.model([("x", ["batch", 3])], [x]), tmp_path)
    assert dims(source)[8].frozen is None


def test_an_empty_value_holds_nothing(tmp_path: Path) -> None:
    """What is computed of no rows at all says nothing of the shapes at run time, in some kernels."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 8))
    chosen = b.op("Compress", x, b.constant(np.zeros(2, bool)), axis=1)
    mean = b.op("ReduceMean", b.op("Mul", chosen, chosen), axes=[-1])
    normed = b.op("Mul", b.op("Div", chosen, b.op("Sqrt", mean)), b.weight(8))
    x = b.op("MatMul", b.op("Concat", x, normed, axis=1), b.weight(8, 5))
    source = save(b.model([("x", ["batch", "sequence", 3])], [x], rank=3), tmp_path)
    assert dims(source)[8].frozen is None


def test_layers_whose_weights_others_use_keep_their_number(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 8))
    weights = [(b.weight(8, 16), b.weight(16, 8)) for _ in range(3)]
    for up, down in weights:
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, up)), down))
    again = b.op("MatMul", b.op("Tanh", b.op("MatMul", x, weights[2][0])), weights[2][1])
    x = b.op("MatMul", b.op("Mul", x, again), b.weight(8, 5))
    source = save(b.model([("x", ["batch", "sequence", 3])], [x], rank=3), tmp_path)
    (chain,) = bot_onnx.inspect(source).structure.chains
    assert chain.count == 3 and chain.resizable is not None and chain.resizable.kind is Why.USED_ELSEWHERE
    with pytest.raises(BotError, match="use the weights of its layers"):
        bot_onnx.resize(source, {"layers": 2}, tmp_path / "out.onnx")
    check_growth(source, (2, 7, 3))

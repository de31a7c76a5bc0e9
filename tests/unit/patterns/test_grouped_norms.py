"""Norms over groups of channels, written out in ops: the number of groups is a count, and heads are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx._structure import Role
from tests.graphs import GraphBuilder, save

GROUPS = 4


def _mean(b: GraphBuilder, x: str, axes: list[int]) -> str:
    return b.op("ReduceMean", x, axes=axes, keepdims=1)


def _normed(b: GraphBuilder, x: str, axes: list[int], way: str) -> str:
    """``(x - mean) / std`` over some axes, as frameworks write it."""
    mean = _mean(b, x, axes)
    centred = b.op("Sub", x, mean)
    if way == "moments":  # E[x²] - E[x]²
        spread = b.op("Sub", _mean(b, b.op("Mul", x, x), axes), b.op("Mul", mean, mean))
    elif way == "power":
        spread = _mean(b, b.op("Pow", centred, b.constant(np.float32(2))), axes)
    else:
        spread = _mean(b, b.op("Mul", centred, centred), axes)
    root = b.op("Sqrt", b.op("Add", spread, b.constant(np.float32(1e-5))))
    if way == "factor":  # x * inv + (0 - mean * inv)
        inverse = b.op("Reciprocal", root)
        return b.op("Sub", b.op("Mul", x, inverse), b.op("Mul", mean, inverse))
    if way == "inverse":
        return b.op("Mul", centred, b.op("Reciprocal", root))
    return b.op("Div", centred, root)


def grouped(b: GraphBuilder, x: str, channels: int, layout: str, way: str) -> str:
    """A norm over groups of channels of a map of 8 x 8, written in one of four ways."""
    if layout == "last":  # [batch, height, width, groups, channels of a group]
        turned = b.op("Transpose", x, perm=[0, 2, 3, 1])
        parts = b.op("Reshape", turned, b.ints(-1, 8, 8, GROUPS, channels // GROUPS))
        whole = b.op("Reshape", _normed(b, parts, [1, 2, 4], way), b.ints(-1, 8, 8, channels))
        return b.op("Transpose", whole, perm=[0, 3, 1, 2])
    if layout == "first":
        parts = b.op("Reshape", x, b.ints(0, GROUPS, channels // GROUPS, 8, 8))
        return b.op("Reshape", _normed(b, parts, [2, 3, 4], way), b.ints(0, channels, 8, 8))
    if layout == "flat":  # [batch, groups, channels of a group x height x width]
        parts = b.op("Reshape", x, b.ints(0, GROUPS, -1))
        return b.op("Reshape", _normed(b, parts, [2], way), b.op("Shape", x))
    ones = [b.constant(np.full(GROUPS, number, np.float32)) for number in (1, 0)]
    normed = b.op("InstanceNormalization", b.op("Reshape", x, b.ints(0, GROUPS, -1)), *ones)
    return b.op("Reshape", normed, b.op("Shape", x))


def images(channels: int, layout: str, way: str) -> onnx.ModelProto:
    """A norm over groups between two convolutions."""
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(channels, 3, 3, 3), pads=[1, 1, 1, 1])
    normed = grouped(b, x, channels, layout, way)
    scaled = b.op("Add", b.op("Mul", normed, b.weight(channels, 1, 1)), b.weight(channels, 1, 1))
    made = b.op("Conv", b.op("Relu", scaled), b.weight(4, channels, 3, 3), pads=[1, 1, 1, 1])
    return b.model([("x", ["batch", 3, 8, 8])], [made], rank=4)


def outputs(path: Path) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    return np.asarray(session(str(path)).run(None, {"x": x})[0])


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("way", ["divided", "inverse", "power", "moments", "factor"])
@pytest.mark.parametrize("layout", ["last", "first", "flat"])
def test_the_number_of_groups_stays_as_where_it_is_one_op(layout: str, way: str, factor: float, tmp_path: Path) -> None:
    """The same weights come out, and the network computes what it does with the norm in one op."""
    outs = []
    for name, form in (("written", layout), ("op", "op")):
        source, out = save(images(16, form, way), tmp_path, f"{name}.onnx"), tmp_path / f"{name}.out.onnx"
        bot_onnx.resize(source, {"width": factor}, out)
        outs.append(outputs(out))
    np.testing.assert_allclose(outs[0], outs[1], rtol=1e-4, atol=1e-5)


def attention(*, whole_again: bool) -> onnx.ModelProto:
    """Queries and keys are normalised head by head; the heads meet in scores, or become whole before they do."""
    b = GraphBuilder()
    heads, head_dim = 4, 8
    x = b.op("MatMul", "x", b.weight(5, 32))

    def split(value: str) -> str:
        return b.op("Reshape", value, b.ints(0, 0, heads, head_dim))

    def normed(value: str) -> str:
        found = _normed(b, split(value), [3], "divided")
        return split(b.op("Relu", b.op("Reshape", found, b.ints(0, 0, 32)))) if whole_again else found

    q, k = (normed(b.op("MatMul", x, b.weight(32, 32))) for _ in range(2))
    v = split(b.op("MatMul", x, b.weight(32, 32)))
    q, v = (b.op("Transpose", value, perm=[0, 2, 1, 3]) for value in (q, v))
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 3, 1]))
    scores = b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5)))
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    x = b.op("Add", x, b.op("MatMul", b.op("Reshape", mixed, b.ints(0, 0, 32)), b.weight(32, 32)))
    return b.model([("x", ["batch", "sequence", 5])], [b.op("MatMul", x, b.weight(32, 3))], rank=3)


@pytest.mark.parametrize("whole_again", [False, True])
def test_heads_that_are_normalised_are_no_groups(whole_again: bool, tmp_path: Path) -> None:
    source = save(attention(whole_again=whole_again), tmp_path)
    heads = [dim for dim in bot_onnx.inspect(source).structure.dims.values() if dim.role == Role.HEADS]
    assert [dim.size for dim in heads] == [4] and heads[0].frozen is None
    assert bot_onnx.resize(source, {"heads": 2}, tmp_path / "out.onnx").report.passed


def test_a_mean_of_parts_is_no_norm(tmp_path: Path) -> None:
    """Parts that are averaged are not normalised: their number may change."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 16))
    parts = b.op("Reshape", x, b.ints(0, GROUPS, 4))
    shifted = b.op("Reshape", b.op("Sub", parts, _mean(b, parts, [2])), b.ints(0, 16))
    source = save(b.model([("x", ["batch", 3])], [b.op("MatMul", shifted, b.weight(16, 2))]), tmp_path)
    assert Role.COUNT not in {dim.role for dim in bot_onnx.inspect(source).structure.dims.values()}

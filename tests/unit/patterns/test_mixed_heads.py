"""Talking heads: both axes of the matrix that mixes heads are the heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save

HEADS, HEAD_DIM, HIDDEN = 4, 8, 32


def talking(before: str, behind: str) -> onnx.ModelProto:
    """Three layers of attention, whose heads are mixed before or behind the Softmax: ``einsum``, ``matmul``, or not."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, HIDDEN))

    def mixed(value: str, way: str) -> str:
        if way == "einsum":
            return b.op("Einsum", value, b.weight(HEADS, HEADS, name=f"mix{len(b.nodes)}"), equation="bhij,hg->bgij")
        if way == "matmul":
            turned = b.op("Transpose", value, perm=[0, 2, 3, 1])
            made = b.op("MatMul", turned, b.weight(HEADS, HEADS, name=f"mix{len(b.nodes)}"))
            return b.op("Transpose", b.op("Add", made, b.weight(HEADS)), perm=[0, 3, 1, 2])
        return value

    def split(value: str) -> str:
        return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, HEADS, HEAD_DIM)), perm=[0, 2, 1, 3])

    for _ in range(3):
        normed = b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN), axis=-1)
        q, k, v = (split(b.op("MatMul", normed, b.weight(HIDDEN, HIDDEN))) for _ in range(3))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = mixed(b.op("Mul", scores, b.constant(np.float32(HEAD_DIM**-0.5))), before)
        shares = mixed(b.op("Softmax", scores, axis=-1), behind)
        read = b.op("Transpose", b.op("MatMul", shares, v), perm=[0, 2, 1, 3])
        x = b.op("Add", x, b.op("MatMul", b.op("Reshape", read, b.ints(0, 0, HIDDEN)), b.weight(HIDDEN, HIDDEN)))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(HIDDEN, 5))], rank=3)


WAYS = [("einsum", ""), ("matmul", ""), ("", "einsum"), ("", "matmul"), ("einsum", "einsum"), ("matmul", "einsum")]


@pytest.mark.parametrize(("before", "behind"), WAYS)
def test_there_is_one_number_of_heads(before: str, behind: str, tmp_path: Path) -> None:
    structure = bot_onnx.inspect(save(talking(before, behind), tmp_path)).structure
    sizes = [(dim.role, dim.size) for dim in structure.dims.values() if dim.kind == "leaf"]
    assert [size for role, size in sizes if role == "heads"] == [HEADS]
    assert sorted(size for role, size in sizes if role in ("head_dim", "v_head_dim")) == [HEAD_DIM, HEAD_DIM]


@pytest.mark.parametrize(("before", "behind"), WAYS)
@pytest.mark.parametrize("hidden", [16, 64])
def test_heads_follow_hidden(before: str, behind: str, hidden: int, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(save(talking(before, behind), tmp_path), {"hidden": hidden}, out)
    assert result.report.passed and result.plan.promise.kept is (hidden > HIDDEN)
    mixing = [list(one.dims) for one in onnx.load(out).graph.initializer if one.name.startswith("mix")]
    assert mixing == [[hidden // HEAD_DIM, hidden // HEAD_DIM]] * 3 * sum(map(bool, (before, behind)))


def test_heads_can_be_mixed_to_another_number(tmp_path: Path) -> None:
    """Of which there are as many as there were: nothing ties the two."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 16))
    q, k = (
        b.op("Transpose", b.op("Reshape", b.op("MatMul", x, b.weight(16, 16)), b.ints(0, 0, 4, 4)), perm=[0, 2, 1, 3])
        for _ in range(2)
    )
    v = b.op("Transpose", b.op("Reshape", b.op("MatMul", x, b.weight(16, 16)), b.ints(0, 0, 2, 8)), perm=[0, 2, 1, 3])
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Einsum", b.op("Mul", scores, b.constant(np.float32(0.5))), b.weight(4, 2), equation="bhij,hg->bgij")
    read = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    x = b.op("MatMul", b.op("Reshape", read, b.ints(0, 0, 16)), b.weight(16, 5))
    source = save(b.model([("x", ["batch", "sequence", 3])], [x], rank=3), tmp_path)
    structure = bot_onnx.inspect(source).structure
    assert sorted(dim.size for dim in structure.dims.values() if dim.role == "heads") == [2, 4]

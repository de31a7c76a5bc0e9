"""Attention written in Einsum: heads and their channels are found, and duplication keeps the function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import bot_onnx
from bot_onnx._ops.einsum import subscripts, summed_axes
from tests.graphs import GraphBuilder, save


def einsum_attention(layers: int = 3, hidden: int = 16, heads: int = 4, head_dim: int = 4) -> onnx.ModelProto:
    """Queries, keys and values of weights ``[hidden, heads, head_dim]``, in axes of sequence x batch."""
    b = GraphBuilder()
    x = b.op("Einsum", "x", b.weight(3, hidden), equation="bic,ch->ibh")
    memory = b.op("MatMul", "x", b.weight(3, 6))
    for _ in range(layers):
        memory = b.op("Cast", memory, to=onnx.TensorProto.FLOAT)
        q, k, v = (b.op("Einsum", x, b.weight(hidden, heads, head_dim), equation="ibh,hnd->ibnd") for _ in range(3))
        bias = b.op("Einsum", memory, b.weight(6, heads), equation="bjc,cn->bnj")
        score = b.op("Einsum", b.op("Add", q, b.weight(heads, head_dim)), k, equation="ibnd,jbnd->bnij")
        score = b.op("Mul", score, b.constant(np.array(head_dim**-0.5, np.float32)))
        shares = b.op("Softmax", b.op("Add", score, b.op("Unsqueeze", bias, b.ints(2))), axis=-1)
        found = b.op("Einsum", shares, v, equation="bnij,jbnd->ibnd")
        written = b.op("Einsum", found, b.weight(hidden, heads, head_dim), equation="ibnd,hnd->ibh")
        scale, shift = b.constant(np.ones(hidden, np.float32)), b.constant(np.full(hidden, 0.1, np.float32))
        x = b.op("LayerNormalization", b.op("Add", x, written), scale, shift)
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(hidden, 5))], rank=3)


def outputs(path: Path) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0])


def test_heads_and_head_dim_are_read_from_the_letters(tmp_path: Path) -> None:
    structure = bot_onnx.inspect(save(einsum_attention(), tmp_path)).structure
    sizes = {dim.role: dim.size for dim in structure.dims.values()}
    assert sizes["hidden"] == 16 and sizes["heads"] == 4
    assert [dim.size for dim in structure.dims.values() if dim.role in ("head_dim", "v_head_dim")] == [4, 4]
    directions = {stack.directions for stack in structure.stacks if len(stack.shape) == 3}
    assert directions == {("in", "out", "out"), ("out", "in", "in")}


def test_a_value_that_every_layer_casts_again_leaves_the_last_layer_in_the_chain(tmp_path: Path) -> None:
    structure = bot_onnx.inspect(save(einsum_attention(layers=4), tmp_path)).structure
    assert [chain.count for chain in structure.chains] == [4]


def test_twice_the_width_computes_the_same(tmp_path: Path) -> None:
    source, out = save(einsum_attention(), tmp_path), tmp_path / "wide.onnx"
    bot_onnx.resize(source, {"width": 2.0}, out, method="net2net")
    sizes = {dim.role: dim.size for dim in bot_onnx.inspect(out).structure.dims.values()}
    assert (sizes["hidden"], sizes["heads"], sizes["head_dim"]) == (32, 8, 4)
    np.testing.assert_allclose(outputs(out), outputs(source), rtol=1e-4, atol=1e-5)


def node(equation: str) -> ir.Node:
    return ir.Node("", "Einsum", [], [ir.AttrString("equation", equation)])


def test_letters_and_ellipses_are_told_apart() -> None:
    terms, outcome = subscripts(node("...ij, jk -> ...ik"), (4, 2))
    assert terms == [("...1", "...0", "i", "j"), ("j", "k")] and outcome == ("...1", "...0", "i", "k")
    assert summed_axes(node("...ij,jk->...ik"), 0, (4, 2)) == [3]
    assert summed_axes(node("bind,hnd->bih"), 1, (4, 3)) == [1, 2]
    assert subscripts(node("ij,jk"), (2, 2))[1] is None

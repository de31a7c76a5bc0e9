"""Layers that read the keys and values of an earlier one stand outside the chain, and nobody counts them wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

HIDDEN, HEADS, HEAD_DIM, INNER = 12, 2, 4, 20


def _heads(b: GraphBuilder, x: str) -> str:
    split = b.op("Reshape", b.op("MatMul", x, b.weight(HIDDEN, HEADS * HEAD_DIM)), b.ints(0, 0, HEADS, HEAD_DIM))
    return b.op("Transpose", split, perm=[0, 2, 1, 3])


def sharing(own: int, shared: int) -> onnx.ModelProto:
    """``own`` layers with keys and values of their own, then ``shared`` ones that read those of the last of them."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(5, HIDDEN))
    keys = values = ""
    for layer in range(own + shared):
        normed = b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN))
        query = _heads(b, normed)
        if layer < own:
            keys, values = b.op("Transpose", _heads(b, normed), perm=[0, 1, 3, 2]), _heads(b, normed)
        scores = b.op("Mul", b.op("MatMul", query, keys), b.constant(np.array(HEAD_DIM**-0.5, np.float32)))
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), values), perm=[0, 2, 1, 3])
        flat = b.op("Reshape", mixed, b.ints(0, 0, HEADS * HEAD_DIM))
        x = b.op("Add", x, b.op("MatMul", flat, b.weight(HEADS * HEAD_DIM, HIDDEN)))
        normed = b.op("LayerNormalization", x, b.weight(HIDDEN), b.weight(HIDDEN))
        inner = b.op("Relu", b.op("MatMul", normed, b.weight(HIDDEN, INNER)))
        x = b.op("Add", x, b.op("MatMul", inner, b.weight(INNER, HIDDEN)))
    return b.model([("x", ["batch", "sequence", 5])], [b.op("MatMul", x, b.weight(HIDDEN, 3))], rank=3)


def test_one_number_of_layers_is_refused_and_a_named_one_is_of_the_chain(tmp_path: Path) -> None:
    source, out = save(sharing(4, 2), tmp_path), tmp_path / "out.onnx"
    structure = bot_onnx.inspect(source).structure
    (chain,) = structure.chains
    assert (chain.count, chain.strays) == (3, 3)
    assert any("WARNING: 3 more" in note for note in structure.notes)
    with pytest.raises(SpecError, match="or the 6 of the network"):
        bot_onnx.resize(source, {"layers": 5}, out)
    result = bot_onnx.resize(source, {"layers": {chain.name: 2}}, out)
    assert any("WARNING: 3 more" in note for note in result.plan.notes)
    native = transplant(analysis_of(out), analysis_of(save(sharing(3, 2), tmp_path, "native.onnx")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_nothing_stands_beside_layers_with_keys_of_their_own(tmp_path: Path) -> None:
    (chain,) = bot_onnx.inspect(save(sharing(4, 0), tmp_path)).structure.chains
    assert (chain.count, chain.strays) == (4, 0)

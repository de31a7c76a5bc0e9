"""One decoder in three spellings: queries, keys and values in three matrices, in one, and in one head by head."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.graphs import GraphBuilder

Spelling = Literal["apart", "fused", "by head"]
Floats = NDArray[np.float32]
SPELLINGS: tuple[Spelling, ...] = ("apart", "fused", "by head")
LAYERS, HEADS, HEAD_DIM = 4, 4, 8


def qkv_model(spelling: Spelling) -> onnx.ModelProto:
    """Residual attentions and a map to three numbers; the weights are the same in all spellings."""
    heads, head_dim = HEADS, HEAD_DIM
    rng, hidden = np.random.default_rng(0), heads * head_dim
    b = GraphBuilder()

    def drawn(*shape: int) -> Floats:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    x = b.op("MatMul", "x", b.constant(drawn(4, hidden)))
    for layer in range(LAYERS):
        weights, biases = [drawn(hidden, hidden) for _ in range(3)], [drawn(hidden) for _ in range(3)]
        query, key, value = _sides(b, x, spelling, weights, biases, heads, layer)
        scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5)))
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        out = b.op("MatMul", b.op("Reshape", mixed, b.ints(0, 0, hidden)), b.constant(drawn(hidden, hidden)))
        x = b.op("Add", x, out)
    b.op("MatMul", x, b.constant(drawn(hidden, 3)))
    return b.model([("x", ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def _sides(
    b: GraphBuilder, x: str, spelling: Spelling, weights: list[Floats], biases: list[Floats], heads: int, layer: int
) -> list[str]:
    """Queries, keys and values, ``[batch, heads, sequence, head_dim]``."""
    hidden, head_dim = len(weights[0]), len(biases[0]) // heads
    named = [(f"layers.{layer}.{side}.weight", f"layers.{layer}.{side}.bias") for side in ("q", "k", "v")]
    if spelling == "apart":
        sides = [
            b.op("Add", b.op("MatMul", x, b.constant(w, name)), b.constant(c, bias))
            for w, c, (name, bias) in zip(weights, biases, named, strict=True)
        ]
        return [_by_heads(b, side, heads, head_dim) for side in sides]
    weight, bias = (np.stack(tensors, axis=-2) for tensors in (weights, biases))  # […, 3, hidden]
    if spelling == "by head":
        parts = [t.reshape(*t.shape[:-1], heads, head_dim).swapaxes(-3, -2) for t in (weight, bias)]
        weight, bias = parts  # […, heads, 3, head_dim]
    flat = b.constant(weight.reshape(hidden, -1), f"layers.{layer}.qkv.weight")
    both = b.op("Add", b.op("MatMul", x, flat), b.constant(bias.reshape(-1), f"layers.{layer}.qkv.bias"))
    if spelling == "fused":
        whole = b.op("Split", both, b.ints(hidden, hidden, hidden), outputs=3, axis=-1)
        return [_by_heads(b, name, heads, head_dim) for name in (whole, f"{whole}.1", f"{whole}.2")]
    split = b.op("Reshape", both, b.ints(0, 0, heads, 3, head_dim))
    chosen = [b.op("Gather", split, b.constant(np.array(part, np.int64)), axis=3) for part in range(3)]
    return [b.op("Transpose", side, perm=[0, 2, 1, 3]) for side in chosen]


def _by_heads(b: GraphBuilder, side: str, heads: int, head_dim: int) -> str:
    return b.op("Transpose", b.op("Reshape", side, b.ints(0, 0, heads, head_dim)), perm=[0, 2, 1, 3])


def qkv_of(model: onnx.ModelProto, spelling: Spelling, layer: int, heads: int) -> tuple[Floats, Floats]:
    """Queries, keys and values of a layer side by side, ``[hidden, 3·hidden]`` and ``[3·hidden]``."""
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kinds = ("weight", "bias")
    if spelling == "apart":
        whole = [np.concatenate([held[f"layers.{layer}.{s}.{kind}"] for s in "qkv"], axis=-1) for kind in kinds]
    else:
        whole = [held[f"layers.{layer}.qkv.{kind}"] for kind in kinds]
    if spelling == "by head":
        whole = [t.reshape(*t.shape[:-1], heads, 3, -1).swapaxes(-3, -2).reshape(t.shape) for t in whole]
    return whole[0], whole[1]

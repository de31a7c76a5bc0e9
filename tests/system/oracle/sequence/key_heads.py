"""Decoders whose query heads share key and value heads, spelled as exporters spell them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graphs import GraphBuilder

FEATURES = 4
#: How keys and values come to meet the query heads.
SPELLINGS = ("broadcast", "unsqueezed", "expanded", "repeated", "computed", "stacked", "folded", "gathered")


def decoder(
    spelling: str = "broadcast",
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 1,
    head_dim: int = 8,
    *,
    cached: bool = False,
    normed: bool = False,
) -> onnx.ModelProto:
    """Pre-norm attention layers ``x [batch, sequence, 4] -> y``; with ``cached``, keys and values go in and out.

    With several key and value heads each is repeated for its group, whatever the spelling: that is what the same
    network looks like then. ``normed``: keys have a norm over the channels of a head, and turn by an angle.
    """
    b = GraphBuilder()
    hidden = heads * head_dim
    inputs: list[onnx.ValueInfoProto] = [_port("x", ["batch", "sequence", FEATURES])]
    outputs: list[onnx.ValueInfoProto] = []
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for layer in range(layers):
        scale, shift = b.weight(hidden), b.weight(hidden)
        u = b.op("LayerNormalization", x, scale, shift)
        q = _split(b, _project(b, u, hidden, hidden), heads, head_dim)
        key = _project(b, u, hidden, kv_heads * head_dim)
        value = _project(b, u, hidden, kv_heads * head_dim)
        scale = b.constant(np.linspace(0.5, 1.5, head_dim).astype(np.float32)) if normed else ""
        k, v = (_one_head(b, one, spelling, kv_heads, head_dim) for one in (key, value))
        if normed:
            k = _turned(b, b.op("LayerNormalization", k, scale), head_dim)
        if cached:
            k, v = (_with_past(b, one, layer, part, inputs, outputs, kv_heads, head_dim)
                    for part, one in (("key", k), ("value", v)))  # fmt: skip
        k, v = (_met(b, one, spelling, heads, kv_heads, head_dim) for one in (k, v))
        k = b.op("Transpose", k, perm=[0, 1, 3, 2])
        scores = b.op("Mul", b.op("MatMul", q, k), b.constant(np.float32(head_dim**-0.5)))
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = b.op("Add", x, b.op("MatMul", b.op("Reshape", mixed, b.ints(0, 0, hidden)), b.weight(hidden, hidden)))
    b.nodes.append(helper.make_node("MatMul", [x, b.weight(hidden, 3)], ["y"], name="head"))
    outputs.insert(0, _port("y", ["batch", "sequence", 3]))
    graph = helper.make_graph(b.nodes, "decoder", inputs, outputs, b.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _port(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _project(b: GraphBuilder, x: str, hidden: int, width: int) -> str:
    return b.op("Add", b.op("MatMul", x, b.weight(hidden, width)), b.weight(width))


def _split(b: GraphBuilder, value: str, heads: int, head_dim: int) -> str:
    return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, heads, head_dim)), perm=[0, 2, 1, 3])


def _one_head(b: GraphBuilder, value: str, spelling: str, kv_heads: int, head_dim: int) -> str:
    """``[batch, kv heads, sequence, head_dim]``."""
    if kv_heads == 1 and spelling in ("unsqueezed", "expanded"):
        return b.op("Unsqueeze", value, b.ints(1))
    if kv_heads == 1 and spelling == "stacked":  # heads in front of the batch
        spread = b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, 1, head_dim)), perm=[2, 0, 1, 3])
        return b.op("Transpose", spread, perm=[1, 0, 2, 3])
    return _split(b, value, kv_heads, head_dim)


def _turned(b: GraphBuilder, value: str, head_dim: int) -> str:
    """Halves change places, one with the other sign."""
    half = head_dim // 2
    left = b.op("Slice", value, b.ints(0), b.ints(half), b.ints(3))
    right = b.op("Slice", value, b.ints(half), b.ints(2**62), b.ints(3))
    turned = b.op("Concat", b.op("Neg", right), left, axis=-1)
    return b.op("Add", value, b.op("Mul", turned, b.constant(np.float32(0.3))))


def _with_past(
    b: GraphBuilder,
    value: str,
    layer: int,
    part: str,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    kv_heads: int,
    head_dim: int,
) -> str:
    past, present = f"past.{layer}.{part}", f"present.{layer}.{part}"
    inputs.append(_port(past, ["batch", kv_heads, "past", head_dim]))
    outputs.append(_port(present, ["batch", kv_heads, "total", head_dim]))
    b.nodes.append(helper.make_node("Concat", [past, value], [present], axis=2, name=present))
    return present


def _met(b: GraphBuilder, value: str, spelling: str, heads: int, kv_heads: int, head_dim: int) -> str:
    """``[batch, heads or 1, sequence, head_dim]``."""
    if kv_heads == 1 and spelling in ("broadcast", "unsqueezed", "stacked"):
        return value
    if kv_heads == 1 and spelling == "expanded":
        return b.op("Expand", value, b.ints(1, heads, 1, 1))
    if kv_heads == 1 and spelling == "folded":  # into the batch, turned twice, and out again
        sizes = b.op("Shape", value)
        length, width = (b.op("Slice", sizes, b.ints(n), b.ints(n + 1)) for n in (2, 3))
        flat = b.op("Reshape", value, b.op("Concat", b.ints(-1), length, width, axis=0))
        flat = b.op("Transpose", b.op("Transpose", flat, perm=[0, 2, 1]), perm=[0, 2, 1])
        return b.op("Reshape", flat, b.op("Concat", b.op("Slice", sizes, b.ints(0), b.ints(2)), length, width, axis=0))
    group = heads // kv_heads
    if spelling in ("gathered", "gathered_in_turn"):  # by indices: 0, 0, 1, 1 or 0, 1, 0, 1
        repeat = np.repeat if spelling == "gathered" else np.tile
        return b.op("Gather", value, b.constant(repeat(np.arange(kv_heads), group)), axis=1)
    if spelling == "tiled":
        return b.op("Tile", value, b.ints(1, group, 1, 1))
    wide = b.op("Unsqueeze", value, b.ints(2))
    if spelling == "computed":  # as tracers write it: every size is taken from the value
        sizes = b.op("Shape", value)
        batch, own, length, width = (b.op("Slice", sizes, b.ints(n), b.ints(n + 1)) for n in range(4))
        wide = b.op("Expand", wide, b.op("Concat", batch, own, b.ints(group), length, width, axis=0))
        many = b.op("Mul", own, b.ints(group))
        return b.op("Reshape", wide, b.op("Concat", batch, many, length, width, axis=0))
    wide = b.op("Expand", wide, b.ints(1, 1, group, 1, 1))
    return b.op("Reshape", wide, b.ints(0, heads, -1, head_dim))


def grouped_queries(
    spelling: str, heads: int = 8, kv_heads: int = 4, head_dim: int = 8, hidden: int = 32
) -> onnx.ModelProto:
    """Nothing is repeated: query heads have an axis for the key heads and one for the group that shares each.

    ``matmul``: keys have an axis of size 1 for the group. ``einsum``: weights have an axis for all heads;
    ``einsum_apart``: also one for the group.
    """
    b = GraphBuilder()
    group = heads // kv_heads
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for _ in range(2):
        if spelling == "matmul":
            q = b.op(
                "Reshape",
                b.op("MatMul", x, b.weight(hidden, heads * head_dim)),
                b.ints(0, 0, kv_heads, group, head_dim),
            )
            q = b.op("Transpose", q, perm=[0, 2, 3, 1, 4])
            k, v = (
                _split(b, b.op("MatMul", x, b.weight(hidden, kv_heads * head_dim)), kv_heads, head_dim) for _ in "kv"
            )
            k, v = (b.op("Unsqueeze", one, b.ints(2)) for one in (k, v))
            scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 2, 4, 3]))
        else:
            if spelling == "einsum":
                q = b.op("Einsum", x, b.weight(hidden, heads, head_dim), equation="bsm,mhd->bshd")
                q = b.op("Reshape", q, b.ints(0, 0, kv_heads, group, head_dim))
            else:
                q = b.op("Einsum", x, b.weight(hidden, kv_heads, group, head_dim), equation="bsm,mkgd->bskgd")
            k, v = (b.op("Einsum", x, b.weight(hidden, kv_heads, head_dim), equation="bsm,mkd->bskd") for _ in "kv")
            scores = b.op("Einsum", q, k, equation="bskgd,btkd->bkgst")
        shares = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5))), axis=-1)
        if spelling == "matmul":
            mixed = b.op("Transpose", b.op("MatMul", shares, v), perm=[0, 3, 1, 2, 4])
        else:
            mixed = b.op("Einsum", shares, v, equation="bkgst,btkd->bskgd")
        mixed = b.op("Reshape", mixed, b.ints(0, 0, heads * head_dim))
        x = b.op("Add", x, b.op("MatMul", mixed, b.weight(heads * head_dim, hidden)))
    return b.model([("x", ["batch", "sequence", FEATURES])], [b.op("MatMul", x, b.weight(hidden, 3))], rank=3)


def queries_in_a_row(layers: int = 2, heads: int = 4, head_dim: int = 8) -> onnx.ModelProto:
    """Query heads lie behind one another, ``[batch, sequence x heads, head_dim]``: no axis is theirs."""
    b = GraphBuilder()
    hidden = heads * head_dim
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for _ in range(layers):
        q = b.op("Reshape", _project(b, x, hidden, hidden), b.ints(0, -1, head_dim))
        k, v = (_project(b, x, hidden, head_dim) for _ in range(2))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1]))
        scores = b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5)))
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
        x = b.op("Add", x, b.op("MatMul", b.op("Reshape", mixed, b.ints(0, -1, hidden)), b.weight(hidden, hidden)))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", "sequence", FEATURES])], [b.nodes[-1].output[0]], rank=3)

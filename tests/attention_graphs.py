"""Decoders of three layers whose attention is one op: ONNX's own, and those that onnxruntime's optimisers write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graphs import GraphBuilder

MICROSOFT = "com.microsoft"
VOCAB, POSITIONS, LAYERS = 11, 24, 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """Width of the stream is ``hidden``; queries have ``heads`` of ``head_dim``, keys and values ``kv_heads``."""

    hidden: int = 24
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 6
    layers: int = LAYERS


Attend = Callable[[GraphBuilder, str, Sizes], str]


def _project(b: GraphBuilder, x: str, sizes: Sizes, width: int) -> str:
    return b.op("Add", b.op("MatMul", x, b.weight(sizes.hidden, width)), b.weight(width))


def _separate(b: GraphBuilder, x: str, s: Sizes) -> tuple[str, str, str]:
    return (
        _project(b, x, s, s.heads * s.head_dim),
        _project(b, x, s, s.kv_heads * s.head_dim),
        _project(b, x, s, s.kv_heads * s.head_dim),
    )


def standard(b: GraphBuilder, x: str, s: Sizes) -> str:
    """ONNX's Attention on 3-D operands, the scale spelled out."""
    return b.op(
        "Attention",
        *_separate(b, x, s),
        q_num_heads=s.heads,
        kv_num_heads=s.kv_heads,
        is_causal=1,
        scale=float(s.head_dim**-0.5),
    )


def standard_rotary(b: GraphBuilder, x: str, s: Sizes) -> str:
    """ONNX's RotaryEmbedding before Attention."""
    query, key, value = _separate(b, x, s)
    cos, sin = caches(b, s)
    query = b.op("RotaryEmbedding", query, cos, sin, "positions", num_heads=s.heads)
    key = b.op("RotaryEmbedding", key, cos, sin, "positions", num_heads=s.kv_heads)
    return b.op("Attention", query, key, value, q_num_heads=s.heads, kv_num_heads=s.kv_heads, is_causal=1)


def packed(b: GraphBuilder, x: str, s: Sizes) -> str:
    """onnxruntime's Attention, which holds the projection."""
    width = s.heads * s.head_dim
    return b.op(
        "Attention",
        x,
        b.weight(s.hidden, 3 * width),
        b.weight(3 * width),
        domain=MICROSOFT,
        num_heads=s.heads,
        unidirectional=1,
        qkv_hidden_sizes=[width] * 3,
    )


def multi_head(b: GraphBuilder, x: str, s: Sizes) -> str:
    """onnxruntime's MultiHeadAttention with the biases of the projections in it."""
    width = s.heads * s.head_dim
    sides = [b.op("MatMul", x, b.weight(s.hidden, width)) for _ in range(3)]
    scale = float(s.head_dim**-0.5)
    return b.op("MultiHeadAttention", *sides, b.weight(3 * width), domain=MICROSOFT, num_heads=s.heads, scale=scale)


def grouped(b: GraphBuilder, x: str, s: Sizes) -> str:
    """onnxruntime's GroupQueryAttention with the rotary embedding inside."""
    cos, sin = caches(b, s)
    return b.op(
        "GroupQueryAttention",
        *_separate(b, x, s),
        "",
        "",
        "lengths",
        "total",
        cos,
        sin,
        outputs=3,
        domain=MICROSOFT,
        num_heads=s.heads,
        kv_num_heads=s.kv_heads,
        do_rotary=1,
    )


def grouped_packed(b: GraphBuilder, x: str, s: Sizes) -> str:
    """GroupQueryAttention that reads queries, keys and values from one operand."""
    width = (s.heads + 2 * s.kv_heads) * s.head_dim
    return b.op(
        "GroupQueryAttention",
        _project(b, x, s, width),
        "",
        "",
        "",
        "",
        "lengths",
        "total",
        outputs=3,
        domain=MICROSOFT,
        num_heads=s.heads,
        kv_num_heads=s.kv_heads,
    )


def per_head(b: GraphBuilder, x: str, s: Sizes) -> str:
    """Written out, each head's query, key and value in a row: ``[heads, 3, head_dim]``."""
    width = 3 * s.heads * s.head_dim
    spread = b.op("Reshape", _project(b, x, s, width), b.ints(0, 0, s.heads, 3, s.head_dim))
    parts = b.op("Transpose", spread, perm=[3, 0, 2, 1, 4])
    query, key, value = (b.op("Gather", parts, _scalar(b, part)) for part in range(3))
    scale = b.constant(np.array(s.head_dim**-0.5, np.float32))
    score = b.op("Mul", b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2])), scale)
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", score, axis=-1), value), perm=[0, 2, 1, 3])
    return b.op("Reshape", mixed, b.ints(0, 0, s.heads * s.head_dim))


ATTENDS: dict[str, Attend] = {
    "standard": standard,
    "standard_rotary": standard_rotary,
    "packed": packed,
    "multi_head": multi_head,
    "per_head": per_head,
    "grouped": grouped,
    "grouped_packed": grouped_packed,
}
ROTARY = ("standard_rotary", "grouped")
NO_GROUPS = ("packed", "multi_head", "per_head")


def caches(b: GraphBuilder, s: Sizes) -> tuple[str, str]:
    """Tables of cosines and sines, shared by all layers."""
    half = s.head_dim // 2
    angles = np.outer(np.arange(POSITIONS), 10000.0 ** (-np.arange(half) / half)).astype(np.float32)
    known = {tensor.name for tensor in b.tensors}
    if "cos_cache" not in known:
        b.constant(np.cos(angles), "cos_cache")
        b.constant(np.sin(angles), "sin_cache")
    return "cos_cache", "sin_cache"


def decoder(kind: str, s: Sizes, seed: int = 0) -> onnx.ModelProto:
    """A network ``tokens [batch, sequence] -> logits`` with the attention ``kind``."""
    b = GraphBuilder(seed)
    _preamble(b, kind)
    x = b.op("Gather", b.weight(VOCAB, s.hidden, name="words"), "tokens")
    for _ in range(s.layers):
        x = b.op("Add", x, _project_out(b, ATTENDS[kind](b, _norm(b, x, s), s), s))
        inner = b.op("Relu", b.op("MatMul", _norm(b, x, s), b.weight(s.hidden, 2 * s.hidden)))
        x = b.op("Add", x, b.op("MatMul", inner, b.weight(2 * s.hidden, s.hidden)))
    logits = b.op("MatMul", _norm(b, x, s), b.weight(s.hidden, VOCAB))
    model = b.model(
        [("tokens", ["batch", "sequence"])],
        [logits],
        integer_inputs=["tokens"],
        opset=23 if kind.startswith("standard") else 17,
        rank=3,
    )
    model.ir_version = 10
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return model


def cached_decoder(s: Sizes, seed: int = 0) -> onnx.ModelProto:
    """A decoder as runtimes for generation want it: GroupQueryAttention with a cache of keys and values per layer."""
    b = GraphBuilder(seed)
    past = b.op("Gather", b.op("Shape", "past_key_values.0.key"), b.ints(2))
    total = b.op("Add", b.op("Gather", b.op("Shape", "tokens"), b.ints(1)), past)
    last = b.op("Cast", b.op("Sub", total, b.ints(1)), to=TensorProto.INT32)
    batch = b.op("Gather", b.op("Shape", "tokens"), b.ints(0))
    lengths = b.op("Expand", last, batch)
    total = b.op("Squeeze", b.op("Cast", total, to=TensorProto.INT32))
    x = b.op("Gather", b.weight(VOCAB, s.hidden, name="words"), "tokens")
    cos, sin = caches(b, s)
    for layer in range(s.layers):
        query, key, value = _separate(b, _norm(b, x, s), s)
        sides = [f"past_key_values.{layer}.{side}" for side in ("key", "value")]
        made = [f"attention.{layer}", f"present.{layer}.key", f"present.{layer}.value"]
        inputs = [query, key, value, *sides, lengths, total, cos, sin]
        heads = {"num_heads": s.heads, "kv_num_heads": s.kv_heads, "do_rotary": 1}
        b.nodes.append(
            helper.make_node("GroupQueryAttention", inputs, made, name=made[0], domain=MICROSOFT, **heads)
        )  # fmt: skip
        x = b.op("Add", x, _project_out(b, made[0], s))
        inner = b.op("Relu", b.op("MatMul", _norm(b, x, s), b.weight(s.hidden, 2 * s.hidden)))
        x = b.op("Add", x, b.op("MatMul", inner, b.weight(2 * s.hidden, s.hidden)))
    logits = b.op("MatMul", _norm(b, x, s), b.weight(s.hidden, VOCAB))
    model = b.model([("tokens", ["batch", "sequence"])], [logits], integer_inputs=["tokens"], opset=17, rank=3)
    for layer in range(s.layers):
        for side in ("key", "value"):
            shape = ["batch", s.kv_heads, "past", s.head_dim]
            past_name, present_name = f"past_key_values.{layer}.{side}", f"present.{layer}.{side}"
            model.graph.input.append(helper.make_tensor_value_info(past_name, TensorProto.FLOAT, shape))
            shape[2] = "all"
            model.graph.output.append(helper.make_tensor_value_info(present_name, TensorProto.FLOAT, shape))
    model.ir_version = 10
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return model


def _norm(b: GraphBuilder, x: str, s: Sizes) -> str:
    return b.op("LayerNormalization", x, b.weight(s.hidden), b.weight(s.hidden))


def _project_out(b: GraphBuilder, x: str, s: Sizes) -> str:
    return b.op("MatMul", x, b.weight(s.heads * s.head_dim, s.hidden))


def _preamble(b: GraphBuilder, kind: str) -> None:
    """What only some of the ops read: positions, or the lengths of the sequences so far."""
    if kind == "standard_rotary":
        row = b.op("Range", _scalar(b, 0), b.op("Gather", b.op("Shape", "tokens"), _scalar(b, 1)), _scalar(b, 1))
        b.nodes.append(helper.make_node("Expand", [row, b.op("Shape", "tokens")], ["positions"], name="positions"))
    if kind.startswith("grouped"):
        length = b.op("Gather", b.op("Shape", "tokens"), b.ints(1))
        last = b.op("Cast", b.op("Sub", length, b.ints(1)), to=TensorProto.INT32)
        batch = b.op("Gather", b.op("Shape", "tokens"), b.ints(0))
        b.nodes.append(helper.make_node("Expand", [last, batch], ["lengths"], name="lengths"))
        total = b.op("Cast", length, to=TensorProto.INT32)
        b.nodes.append(helper.make_node("Squeeze", [total], ["total"], name="total"))


def _scalar(b: GraphBuilder, number: int) -> str:
    return b.constant(np.array(number, np.int64))

"""Decoders with a cache of keys and values, and networks that show their hidden states, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graphs import GraphBuilder

FEATURES = 4


def _heads(b: GraphBuilder, value: str, heads: int, head_dim: int) -> str:
    return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, heads, head_dim)), perm=[0, 2, 1, 3])


def _port(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def cached_decoder(layers: int = 4, heads: int = 4, head_dim: int = 8) -> onnx.ModelProto:
    """Attention layers over a cache: ``past.N.key`` / ``value`` in, ``present.N.key`` / ``value`` out, and a mask.

    The mask is as long as the past and the new positions together. The length of the past is read from the last
    layer's cache, and told to the first one.
    """
    b = GraphBuilder()
    hidden = 2 * heads * head_dim
    inputs, outputs = (
        [_port("x", ["batch", "sequence", FEATURES]), _port("mask", ["batch", "total"])],
        [_port("y", ["batch", "sequence", 3])],
    )
    cache: list[int | str] = ["batch", heads, "past", head_dim]
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    length = b.op("Gather", b.op("Shape", f"past.{layers - 1}.key"), b.constant(np.int64(2)), axis=0)
    x = b.op("Add", x, b.op("Reciprocal", b.op("Cast", length, to=TensorProto.FLOAT)))
    bias = b.op("Unsqueeze", b.op("Mul", "mask", b.constant(np.float32(2.0))), b.ints(1, 2))
    for layer in range(layers):
        q, k, v = (_heads(b, b.op("MatMul", x, b.weight(hidden, heads * head_dim)), heads, head_dim) for _ in range(3))
        names = [f"past.{layer}.{part}" for part in ("key", "value")]
        inputs += [_port(name, cache) for name in names]
        k, v = b.op("Concat", names[0], k, axis=2), b.op("Concat", names[1], v, axis=2)
        for part, value in (("key", k), ("value", v)):
            b.nodes[[n.output[0] for n in b.nodes].index(value)].output[0] = f"present.{layer}.{part}"
            outputs.append(_port(f"present.{layer}.{part}", ["batch", heads, "total", head_dim]))
        scores = b.op("MatMul", q, b.op("Transpose", f"present.{layer}.key", perm=[0, 1, 3, 2]))
        scores = b.op("Add", b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5))), bias)
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), f"present.{layer}.value")
        flat = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(0, 0, heads * head_dim))
        x = b.op("Add", x, b.op("MatMul", flat, b.weight(heads * head_dim, hidden)))
    b.nodes.append(helper.make_node("MatMul", [x, b.weight(hidden, 3)], ["y"], name="head"))
    graph = helper.make_graph(b.nodes, "decoder", inputs, outputs, b.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def shown_states(layers: int = 4, hidden: int = 8) -> onnx.ModelProto:
    """Residual layers whose inputs are outputs, then a norm: ``state.0`` … ``state.<layers>``, the last one normalised.

    ``last`` is the last state under another name.
    """
    b = GraphBuilder()
    outputs = [_port(f"state.{n}", ["batch", hidden]) for n in range(layers + 1)] + [_port("last", ["batch", hidden])]
    b.nodes.append(helper.make_node("MatMul", ["x", b.weight(FEATURES, hidden)], ["state.0"], name="embed"))
    x = "state.0"
    for layer in range(layers):
        inside = b.op("Relu", b.op("MatMul", x, b.weight(hidden, 2 * hidden)))
        x = b.op("Add", x, b.op("MatMul", inside, b.weight(2 * hidden, hidden)))
        if layer < layers - 1:
            b.nodes[-1].output[0] = x = f"state.{layer + 1}"
    scale, shift = b.constant(np.full(hidden, 1.1, np.float32)), b.constant(np.full(hidden, 0.1, np.float32))
    b.op("LayerNormalization", x, scale, shift)
    b.nodes[-1].output[0] = f"state.{layers}"
    b.nodes.append(helper.make_node("Identity", [f"state.{layers}"], ["last"], name="shown_twice"))
    graph = helper.make_graph(b.nodes, "states", [_port("x", ["batch", FEATURES])], outputs, b.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def taking_turns(order: Sequence[int], hidden: int = 8) -> onnx.ModelProto:
    """Residual layers, each gated by the gate that ``order`` names; gates are computed once, from an input."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    gates = {k: b.op("Sigmoid", b.op("Mul", "g", b.constant(np.float32(k + 1)))) for k in sorted(set(order))}
    for kind in order:
        inside = b.op("Relu", b.op("MatMul", x, b.weight(hidden, 2 * hidden)))
        x = b.op("Add", x, b.op("Mul", b.op("MatMul", inside, b.weight(2 * hidden, hidden)), gates[kind]))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", FEATURES]), ("g", ["batch", 1])], [b.nodes[-1].output[0]])


def two_towers(hidden: tuple[int, int] = (8, 8), layers: tuple[int, int] = (3, 3)) -> onnx.ModelProto:
    """Two residual networks of their own width into one space; the result is what their ends have in common."""
    b = GraphBuilder()
    ends: list[str] = []
    for tower, width, depth in zip(("left", "right"), hidden, layers, strict=True):
        x = b.op("MatMul", tower, b.weight(FEATURES, width, name=f"{tower}.embed"))
        for layer in range(depth):
            scope = f"{tower}.encoder.layers.{layer}"
            inside = b.op("Relu", b.op("MatMul", x, b.weight(width, 2 * width, name=f"{scope}.up")))
            x = b.op("Add", x, b.op("MatMul", inside, b.weight(2 * width, width, name=f"{scope}.down")))
        ends.append(b.op("MatMul", x, b.weight(width, 5, name=f"{tower}.head")))
    b.op("Mul", *ends)
    return b.model([("left", ["batch", FEATURES]), ("right", ["batch", FEATURES])], [b.nodes[-1].output[0]])


def multi_query(layers: int = 3, heads: int = 4, head_dim: int = 8, *, from_end: bool = True) -> onnx.ModelProto:
    """Attention with one key and value head, all projected by one matrix: query heads, then key, then value.

    ``from_end``: the last two are picked by -2 and -1, else by the numbers that they have.
    """
    b = GraphBuilder()
    hidden = heads * head_dim
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for _ in range(layers):
        fused = b.op("MatMul", x, b.weight(hidden, (heads + 2) * head_dim))
        split = b.op("Reshape", fused, b.ints(0, 0, heads + 2, head_dim))
        k, v = (b.op("Gather", split, b.ints(i if from_end else heads + 2 + i), axis=2) for i in (-2, -1))
        q = b.op("Slice", split, b.ints(0), b.ints(-2 if from_end else heads), b.ints(2), b.ints(1))
        q, k, v = (b.op("Transpose", value, perm=[0, 2, 1, 3]) for value in (q, k, v))
        scores = b.op(
            "Mul", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), b.constant(np.float32(head_dim**-0.5))
        )
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
        flat = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(0, 0, hidden))
        x = b.op("Add", x, b.op("MatMul", flat, b.weight(hidden, hidden)))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", "sequence", FEATURES])], [b.nodes[-1].output[0]], rank=3)


def sinks(layers: int = 3, heads: int = 4, head_dim: int = 8) -> onnx.ModelProto:
    """Attention with one more score a head, learned and without a value: it takes weight from the others."""
    b = GraphBuilder()
    hidden = heads * head_dim
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for _ in range(layers):
        q, k, v = (_heads(b, b.op("MatMul", x, b.weight(hidden, hidden)), heads, head_dim) for _ in range(3))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5)))
        one = b.op("ReduceSum", b.op("Mul", scores, b.constant(np.float32(0))), b.ints(3), keepdims=1)
        both = b.op("Concat", scores, b.op("Add", one, b.weight(1, heads, 1, 1)), axis=-1)
        weights = b.op("Slice", b.op("Softmax", both, axis=-1), b.ints(0), b.ints(-1), b.ints(3))
        mixed = b.op("Transpose", b.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        x = b.op("Add", x, b.op("MatMul", b.op("Reshape", mixed, b.ints(0, 0, hidden)), b.weight(hidden, hidden)))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", "sequence", FEATURES])], [b.nodes[-1].output[0]], rank=3)


def first_without_norm(layers: int = 5, hidden: int = 8, inner: int = 16) -> onnx.ModelProto:
    """Residual layers with a norm before each, but for the first one: its input is normalised already."""
    b = GraphBuilder()

    def norm(value: str) -> str:
        scale, shift = b.constant(np.full(hidden, 1.1, np.float32)), b.constant(np.full(hidden, 0.1, np.float32))
        return b.op("LayerNormalization", value, scale, shift)

    x = norm(b.op("MatMul", "x", b.weight(FEATURES, hidden)))
    for layer in range(layers):
        inside = b.op("Relu", b.op("MatMul", norm(x) if layer else x, b.weight(hidden, inner)))
        x = b.op("Add", x, b.op("MatMul", inside, b.weight(inner, hidden)))
    b.op("MatMul", norm(x), b.weight(hidden, 3))
    return b.model([("x", ["batch", FEATURES])], [b.nodes[-1].output[0]])


def experts(layers: int = 3, hidden: int = 8, inner: int = 16, count: int = 4) -> onnx.ModelProto:
    """Residual layers in which a router picks two of ``count`` experts for every row."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for _ in range(layers):
        scores = b.op(
            "TopK", b.op("Softmax", b.op("MatMul", x, b.weight(hidden, count)), axis=-1), b.ints(2), outputs=2
        )
        row = b.op("Unsqueeze", x, b.ints(1, 2))
        up = b.op("Gather", b.weight(count, hidden, inner), f"{scores}.1", axis=0)
        down = b.op("Gather", b.weight(count, inner, hidden), f"{scores}.1", axis=0)
        inside = b.op("MatMul", b.op("Relu", b.op("MatMul", row, up)), down)
        weighted = b.op("Mul", b.op("Squeeze", inside, b.ints(2)), b.op("Unsqueeze", scores, b.ints(2)))
        x = b.op("Add", x, b.op("ReduceSum", weighted, b.ints(1), keepdims=0))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", FEATURES])], [b.nodes[-1].output[0]])


def scaled_branches(layers: int = 4, hidden: int = 8, factor: float = 0.5) -> onnx.ModelProto:
    """Residual layers that add ``factor`` times what their branch computes."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(FEATURES, hidden))
    for _ in range(layers):
        inside = b.op("Relu", b.op("MatMul", x, b.weight(hidden, 2 * hidden)))
        inside = b.op("MatMul", inside, b.weight(2 * hidden, hidden))
        x = b.op("Add", x, b.op("Mul", inside, b.constant(np.float32(factor))))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", FEATURES])], [b.nodes[-1].output[0]])

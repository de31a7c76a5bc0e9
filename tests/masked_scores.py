"""Additive attention under masks in all spellings: scores are a sum over channels, which a growth makes larger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

from tests.graphs import GraphBuilder

#: What makes masked scores of scores; the type of ``m``; the number in it that keeps a key, and the one that hides it.
Kind = tuple[Callable[[GraphBuilder, str], str], int, tuple[int, int]]


def _number(b: GraphBuilder, value: float) -> str:
    return b.constant(np.float32(value))


def _mask(b: GraphBuilder) -> str:
    """``m [batch, keys]`` beside scores ``[batch, queries, keys]``."""
    return b.op("Unsqueeze", "m", b.ints(1))


def _bias(fill: float) -> Callable[[GraphBuilder, str], str]:
    """``s + (1 - m) * fill``."""

    def masked(b: GraphBuilder, scores: str) -> str:
        return b.op("Add", scores, b.op("Mul", b.op("Sub", _number(b, 1), _mask(b)), _number(b, fill)))

    return masked


def _padding(b: GraphBuilder, scores: str) -> str:
    return b.op("Add", scores, b.op("Mul", _mask(b), _number(b, -1e9)))


def _subtracted(b: GraphBuilder, scores: str) -> str:
    return b.op("Sub", scores, b.op("Mul", b.op("Sub", _number(b, 1), _mask(b)), _number(b, 1e30)))


def _compared(op: str, number: float) -> Callable[[GraphBuilder, str], str]:
    """``s where m > 0 else -9e15 * ones``: what graph attention writes."""

    def masked(b: GraphBuilder, scores: str) -> str:
        ones = b.op(
            "ConstantOfShape", b.op("Shape", scores), value=onnx.numpy_helper.from_array(np.ones(1, np.float32))
        )
        return b.op("Where", b.op(op, _mask(b), _number(b, number)), scores, b.op("Mul", ones, _number(b, -9e15)))

    return masked


def _inverted(b: GraphBuilder, scores: str) -> str:
    """``(1 - m).masked_fill((1 - m).bool(), lowest)``: what transformers write."""
    inverse = b.op("Sub", _number(b, 1), _mask(b))
    hidden = b.op("Cast", inverse, to=TensorProto.BOOL)
    return b.op("Add", scores, b.op("Where", hidden, _number(b, np.finfo(np.float32).min), inverse))


def _joined(b: GraphBuilder, scores: str) -> str:
    """A mask and another condition."""
    both = b.op("And", b.op("Cast", _mask(b), to=TensorProto.BOOL), b.op("Less", scores, _number(b, 1e6)))
    return b.op("Where", both, scores, _number(b, -1e9))


def _picked(b: GraphBuilder, scores: str) -> str:
    return b.op("Where", _mask(b), scores, _number(b, -1e9))


def _infinite(b: GraphBuilder, scores: str) -> str:
    return b.op("Where", _mask(b), _number(b, -np.inf), scores)


def _whole(b: GraphBuilder, scores: str) -> str:
    hidden = b.op("Equal", _mask(b), b.constant(np.int64(0)))
    return b.op("Where", hidden, _number(b, -1e4), scores)


def _added(b: GraphBuilder, scores: str, mask: str) -> str:
    """``s + (1 - mask) * -1e9``."""
    return b.op("Add", scores, b.op("Mul", b.op("Sub", _number(b, 1), mask), _number(b, -1e9)))


def _gathered(b: GraphBuilder, scores: str) -> str:
    """``m[:, arange(keys)]``, the keys by computed indices."""
    indices = b.op("Range", b.constant(np.int64(0)), _keys(b), b.constant(np.int64(1)))
    return _added(b, scores, b.op("Gather", _mask(b), indices, axis=-1))


def _keys(b: GraphBuilder) -> str:
    return b.op("Squeeze", b.op("Gather", b.op("Shape", "m"), b.ints(1)), b.ints(0))


def _addressed(b: GraphBuilder, scores: str) -> str:
    """``m[b, k]`` by pairs of indices, as vmapped mask functions of current exporters."""
    ones = b.op("ConstantOfShape", b.op("Shape", "m"), value=onnx.numpy_helper.from_array(np.ones(1, np.bool_)))
    pairs = b.op("Transpose", b.op("NonZero", ones), perm=[1, 0])
    return _added(
        b, scores, b.op("Unsqueeze", b.op("Reshape", b.op("GatherND", "m", pairs), b.op("Shape", "m")), b.ints(1))
    )


def _shifted(b: GraphBuilder, scores: str) -> str:
    """One key that is always there put in front, and cut off again."""
    longer = b.op("Pad", _mask(b), b.ints(0, 0, 1, 0, 0, 0), _number(b, 1))
    return _added(b, scores, b.op("Slice", longer, b.ints(1), b.ints(1000), b.ints(2)))


def _prepended(b: GraphBuilder, scores: str) -> str:
    shape = b.op("Shape", _mask(b))
    always = b.op("ConstantOfShape", shape, value=onnx.numpy_helper.from_array(np.ones(1, np.float32)))
    joined = b.op("Concat", b.op("Slice", always, b.ints(0), b.ints(2), b.ints(2)), _mask(b), axis=-1)
    return _added(b, scores, b.op("Slice", joined, b.ints(2), b.ints(1000), b.ints(2)))


KINDS: dict[str, Kind] = {
    "bias": (_bias(-1e9), TensorProto.FLOAT, (1, 0)),
    "small bias": (_bias(-1e4), TensorProto.FLOAT, (1, 0)),
    "padding": (_padding, TensorProto.FLOAT, (0, 1)),
    "subtracted": (_subtracted, TensorProto.FLOAT, (1, 0)),
    "greater": (_compared("Greater", 0), TensorProto.FLOAT, (1, 0)),
    "equal": (_compared("Equal", 1), TensorProto.FLOAT, (1, 0)),
    "above -1": (_compared("Greater", -1), TensorProto.FLOAT, (0, -2)),
    "inverted": (_inverted, TensorProto.FLOAT, (1, 0)),
    "joined": (_joined, TensorProto.FLOAT, (1, 0)),
    "picked": (_picked, TensorProto.BOOL, (1, 0)),
    "infinite": (_infinite, TensorProto.BOOL, (0, 1)),
    "gathered": (_gathered, TensorProto.FLOAT, (1, 0)),
    "addressed": (_addressed, TensorProto.FLOAT, (1, 0)),
    "shifted": (_shifted, TensorProto.FLOAT, (1, 0)),
    "prepended": (_prepended, TensorProto.FLOAT, (1, 0)),
    "whole": (_whole, TensorProto.INT64, (1, 0)),
}


def masked_attention(kind: str, *, hidden: int = 8, shown: bool = False) -> onnx.ModelProto:
    """``softmax(mask(sum(v * tanh(q + k))), m) k``; ``shown``: the masked scores are an output as well."""
    masked, dtype, _ = KINDS[kind]
    b = GraphBuilder()
    q, k = (b.op("MatMul", name, b.weight(6, hidden)) for name in ("q", "k"))
    pairs = b.op("Tanh", b.op("Add", b.op("Unsqueeze", q, b.ints(2)), b.op("Unsqueeze", k, b.ints(1))))
    v = b.constant(np.random.default_rng(1).standard_normal(hidden).astype(np.float32))
    scores = masked(b, b.op("ReduceSum", b.op("Mul", pairs, v), b.ints(-1), keepdims=0))
    read = b.op("MatMul", b.op("Softmax", scores, axis=-1), k)
    y = b.op("MatMul", read, b.weight(hidden, 3))
    ports = [("q", ["batch", "queries", 6]), ("k", ["batch", "keys", 6]), ("m", ["batch", "keys"])]
    model = b.model(ports, [y, scores] if shown else [y], rank=3)
    model.graph.input[2].type.tensor_type.elem_type = dtype
    return model

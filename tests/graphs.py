"""Small graphs made by hand: what exporters do not give a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


class GraphBuilder:
    """Collects nodes and weights; every helper returns the name of what it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(seed)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; returns its first output (``name.1``… for the others)."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"node_{name}", **attributes))
        return name

    def weight(self, *shape: int, name: str | None = None) -> str:
        """Add random float weights."""
        return self.constant((self._rng.standard_normal(shape) * 0.2).astype(np.float32), name)

    def constant(self, array: NDArray[np.generic], name: str | None = None) -> str:
        """Add an initializer."""
        name = name or f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        """Add a 1-D integer constant."""
        return self.constant(np.array(values, np.int64))

    def model(
        self,
        inputs: Sequence[tuple[str, Sequence[int | str]]],
        outputs: Sequence[str],
        *,
        integer_inputs: Sequence[str] = (),
        opset: int = 17,
        rank: int = 2,
    ) -> onnx.ModelProto:
        """The model: float inputs but for the named ones; outputs of ``rank`` open axes."""
        ports = [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name in integer_inputs else TensorProto.FLOAT, list(shape)
            )
            for name, shape in inputs
        ]
        results = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{axis}" for axis in range(rank)])
            for name in outputs
        ]
        graph = helper.make_graph(self.nodes, "handmade", ports, results, self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def residual_mlp(layers: int = 3, hidden: int = 8, inner: int = 16) -> GraphBuilder:
    """``x + W2 relu(W1 norm(x))`` per layer; the result is ``<last>``, see :func:`residual_mlp_model`."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, hidden))
    for _ in range(layers):
        scale, shift = b.constant(np.ones(hidden, np.float32)), b.constant(np.full(hidden, 0.1, np.float32))
        normed = b.op("LayerNormalization", x, scale, shift)
        inside = b.op("Relu", b.op("Add", b.op("MatMul", normed, b.weight(hidden, inner)), b.weight(inner)))
        x = b.op("Add", x, b.op("Add", b.op("MatMul", inside, b.weight(inner, hidden)), b.weight(hidden)))
    b.op("MatMul", x, b.weight(hidden, 3))
    return b


def residual_mlp_model(layers: int = 3, hidden: int = 8, inner: int = 16) -> onnx.ModelProto:
    """A pre-norm residual network without attention."""
    b = residual_mlp(layers, hidden, inner)
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


def tied_attention_model(layers: int = 2, heads: int = 2, head_dim: int = 4) -> onnx.ModelProto:
    """Attention with one projection for q, k and v and none after it: hidden *is* heads x head_dim, index for index."""
    b = GraphBuilder()
    hidden = heads * head_dim
    x = b.op("MatMul", "x", b.weight(4, hidden))
    for _ in range(layers):
        v = _heads(b, b.op("MatMul", x, b.weight(hidden, hidden)), heads, head_dim)
        scores = b.op("MatMul", v, b.op("Transpose", v, perm=[0, 1, 3, 2]))
        scores = b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5)))
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
        flat = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(0, 0, hidden))
        x = b.op("Add", x, flat)
    b.op("MatMul", x, b.weight(hidden, 3))
    return b.model([("x", ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def _heads(b: GraphBuilder, value: str, heads: int, head_dim: int) -> str:
    return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, heads, head_dim)), perm=[0, 2, 1, 3])


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model into ``folder``."""
    path = folder / name
    onnx.save(model, path)
    return path

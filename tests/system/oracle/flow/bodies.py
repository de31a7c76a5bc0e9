"""Small networks with If, Loop and Scan: weights inside the bodies and outside, values captured from around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graphs import GraphBuilder

FLOAT = TensorProto.FLOAT
OUTPUTS = 3


class Body(GraphBuilder):
    """A body of a control-flow node of ``outer``: its own nodes and weights, under names of their own."""

    def __init__(self, outer: GraphBuilder) -> None:
        super().__init__()
        self._rng = outer._rng
        self._prefix = f"b{len(outer.nodes)}_"
        outer.nodes.append(helper.make_node("Identity", ["x"], [self._prefix]))  # keeps prefixes apart
        outer.nodes[-1].name = self._prefix

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node."""
        name = f"{self._prefix}{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def constant(self, array: np.ndarray, name: str | None = None) -> str:
        """Add an initializer of the body."""
        return super().constant(array, name or f"{self._prefix}w{len(self.tensors)}")

    def graph(self, outputs: list[tuple[str, int]], inputs: Sequence[tuple[str, int, int]] = ()) -> onnx.GraphProto:
        """The body: outputs as (name, type), inputs as (name, type, rank)."""
        given = [helper.make_tensor_value_info(n, kind, ["?"] * rank) for n, kind, rank in inputs]
        made = [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs]
        return helper.make_graph(self.nodes, self._prefix, given, made, self.tensors)


def linear(b: GraphBuilder, x: str, width: int, wider: int) -> str:
    """``x W + b``."""
    return b.op("Add", b.op("MatMul", x, b.weight(width, wider)), b.weight(wider))


def branching(layers: int = 3, hidden: int = 8, inner: int = 16, *, nested: bool = False) -> onnx.ModelProto:
    """A residual network in which a flag chooses the inside of every layer."""
    b = GraphBuilder()
    x = linear(b, "x", 4, hidden)
    for _ in range(layers):
        normed = b.op("LayerNormalization", x, b.constant(np.full(hidden, 1.5, np.float32)))
        then, other = Body(b), Body(b)
        outcome = then.op("Relu", linear(then, normed, hidden, inner))
        if nested:
            deep, flat = Body(b), Body(b)
            chosen = helper.make_node(
                "If", ["flag"], [f"{then._prefix}deep"], name=f"{then._prefix}if",
                then_branch=deep.graph([(linear(deep, outcome, inner, inner), FLOAT)]),
                else_branch=flat.graph([(flat.op("Identity", outcome), FLOAT)]),
            )  # fmt: skip
            then.nodes.append(chosen)
            outcome = chosen.output[0]
        outcome = linear(then, outcome, inner, hidden)
        gated = other.op("Mul", other.op("Sigmoid", linear(other, normed, hidden, hidden)), x)
        made = b.op("If", "flag", then_branch=then.graph([(outcome, FLOAT)]), else_branch=other.graph([(gated, FLOAT)]))
        x = b.op("Add", x, made)
    model = b.model([("x", ["batch", 4]), ("flag", [])], [linear(b, x, hidden, OUTPUTS)])
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    return model


def looping(hidden: int = 8, inner: int = 16, turns: int = 3) -> onnx.ModelProto:
    """A Loop that refines a carried state, and collects a view of it at every turn."""
    b = GraphBuilder()
    start = linear(b, "x", 4, hidden)
    body = Body(b)
    step = body.op("Tanh", linear(body, "state", hidden, inner))
    after = body.op("Add", linear(body, step, inner, hidden), start)  # captured from around
    view = linear(body, after, hidden, inner)
    graph = body.graph(
        [("going", TensorProto.BOOL), (after, FLOAT), (view, FLOAT)],
        [("turn", TensorProto.INT64, 0), ("going", TensorProto.BOOL, 0), ("state", FLOAT, 2)],
    )
    made = b.op("Loop", b.constant(np.int64(turns)), "", start, outputs=2, body=graph)
    seen = b.op("ReduceMean", f"{made}.1", axes=[0], keepdims=0)
    joined = b.op("Add", linear(b, made, hidden, OUTPUTS), linear(b, seen, inner, OUTPUTS))
    return b.model([("x", ["batch", 4])], [joined])


def scanning(hidden: int = 8, width: int = 6) -> onnx.ModelProto:
    """A recurrent cell written as a Scan over time."""
    b = GraphBuilder()
    data = b.op("Transpose", b.op("MatMul", "x", b.weight(4, width)), perm=[1, 0, 2])
    start = b.op("MatMul", b.op("ReduceMean", data, axes=[0], keepdims=0), b.weight(width, hidden))
    body = Body(b)
    mixed = body.op("Add", linear(body, "slice", width, hidden), linear(body, "state", hidden, hidden))
    after = body.op("Tanh", mixed)
    copy = body.op("Identity", after)
    graph = body.graph([(after, FLOAT), (copy, FLOAT)], [("state", FLOAT, 2), ("slice", FLOAT, 2)])
    made = b.op("Scan", start, data, outputs=2, body=graph, num_scan_inputs=1)
    every = linear(b, b.op("ReduceMax", f"{made}.1", axes=[0], keepdims=0), hidden, OUTPUTS)
    return b.model([("x", ["batch", "time", 4])], [b.op("Add", every, linear(b, made, hidden, OUTPUTS))])

"""Puts nodes that change nothing behind a value of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

Chain = Callable[["Inserter", str, int], str]


class Inserter:
    """Adds nodes and constants to a copy of ``model``."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        self.opset = model.opset_import[0].version
        self._ranks = {
            v.name: len(v.type.tensor_type.shape.dim)
            for v in (*inferred.value_info, *inferred.input, *inferred.output)
            if v.type.tensor_type.HasField("shape")
        } | {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
        self._made: list[onnx.NodeProto] = []
        self._count = 0

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: object) -> str:
        """Add a node."""
        self._count += 1
        name = f"extra{self._count}"
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self._made.append(helper.make_node(kind, list(inputs), names, name=f"node_{name}", domain=domain, **attributes))
        return name

    def ints(self, *values: int) -> str:
        """A 1-D integer constant."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A scalar."""
        return self.constant(np.array(value, np.float32))

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        self._count += 1
        self.model.graph.initializer.append(numpy_helper.from_array(array, f"extra{self._count}"))
        return f"extra{self._count}"

    def put(self, value: str, chain: Chain) -> None:
        """Let everything that reads ``value`` read what ``chain`` makes of it."""
        graph = self.model.graph
        readers = [(node, slot) for node in graph.node for slot, name in enumerate(node.input) if name == value]
        shown = any(output.name == value for output in graph.output)
        source = value
        if shown:
            source = f"{value}__inside"
            for node in graph.node:
                node.output[:] = [source if name == value else name for name in node.output]
        last = chain(self, source, self._ranks.get(value, 0))
        if shown:
            self._made[-1].output[0] = value
            last = value
        for node, slot in readers:
            node.input[slot] = last
        made = next((i + 1 for i, node in enumerate(graph.node) if source in node.output), 0)
        nodes = [*graph.node[:made], *self._made, *graph.node[made:]]
        copies = [onnx.NodeProto() for _ in nodes]
        for copy, node in zip(copies, nodes, strict=True):
            copy.CopyFrom(node)
        del graph.node[:]
        graph.node.extend(copies)
        self._made.clear()


def _turned(i: Inserter, x: str, rank: int) -> str:
    perm = [*range(rank - 2), rank - 1, rank - 2] if rank > 1 else [0]
    return i.op("Transpose", i.op("Transpose", x, perm=perm), perm=perm)


def _turned_thrice(i: Inserter, x: str, rank: int) -> str:
    perm = [*range(1, rank), 0]
    for _ in range(rank):
        x = i.op("Transpose", x, perm=perm)
    return x


def _squeezed(i: Inserter, x: str, rank: int) -> str:
    return i.op("Squeeze", i.op("Unsqueeze", x, i.ints(0)), i.ints(0))


def _squeezed_inside(i: Inserter, x: str, rank: int) -> str:
    return i.op("Squeeze", i.op("Unsqueeze", x, i.ints(rank)), i.ints(-1))


def _to_own_shape(i: Inserter, x: str, rank: int) -> str:
    return i.op("Reshape", x, i.op("Shape", x))


def _flat_and_back(i: Inserter, x: str, rank: int) -> str:
    return i.op("Reshape", i.op("Reshape", x, i.ints(-1)), i.op("Shape", x))


def _expanded_to_own(i: Inserter, x: str, rank: int) -> str:
    return i.op("Expand", x, i.op("Shape", x))


def _split(i: Inserter, x: str, rank: int) -> str:
    return i.op("Split", x, axis=rank - 1, **({"num_outputs": 1} if i.opset >= 18 else {}))


def _sliced(i: Inserter, x: str, rank: int) -> str:
    return i.op("Slice", x, i.ints(0), i.ints(2**31 - 1), i.ints(rank - 1))


def _sliced_twice(i: Inserter, x: str, rank: int) -> str:
    return i.op("Slice", x, i.ints(0, 0), i.ints(2**63 - 1, 2**63 - 1), i.ints(0, -1), i.ints(1, 1))


def _padded(i: Inserter, x: str, rank: int) -> str:
    return i.op("Pad", x, i.ints(*[0] * (2 * rank)))


NEUTRAL: dict[str, Chain] = {
    "identity": lambda i, x, r: i.op("Identity", x),
    "dropout": lambda i, x, r: i.op("Dropout", x),
    "dropout_mask": lambda i, x, r: i.op("Dropout", x, i.number(0.3), outputs=2),
    "cast": lambda i, x, r: i.op("Cast", x, to=onnx.TensorProto.FLOAT),
    "cast_like": lambda i, x, r: i.op("CastLike", x, i.number(0.0)),
    "reshape": lambda i, x, r: i.op("Reshape", x, i.ints(*[0] * r)),
    "reshape_shape": _to_own_shape,
    "reshape_twice": _flat_and_back,
    "unsqueeze": _squeezed,
    "unsqueeze_end": _squeezed_inside,
    "transpose": _turned,
    "transpose_thrice": _turned_thrice,
    "transpose_none": lambda i, x, r: i.op("Transpose", x, perm=list(range(r))),
    "slice": _sliced,
    "slice_twice": _sliced_twice,
    "concat": lambda i, x, r: i.op("Concat", x, axis=r - 1),
    "split": _split,
    "pad": _padded,
    "expand": lambda i, x, r: i.op("Expand", x, i.ints(*[1] * r)),
    "expand_shape": _expanded_to_own,
    "tile": lambda i, x, r: i.op("Tile", x, i.ints(*[1] * r)),
    "mul": lambda i, x, r: i.op("Mul", x, i.number(1.0)),
    "mul_left": lambda i, x, r: i.op("Mul", i.number(1.0), x),
    "mul_rank": lambda i, x, r: i.op("Mul", x, i.constant(np.ones([1] * r, np.float32))),
    "add": lambda i, x, r: i.op("Add", x, i.number(0.0)),
    "div": lambda i, x, r: i.op("Div", x, i.number(1.0)),
    "sub": lambda i, x, r: i.op("Sub", x, i.number(0.0)),
    "pow": lambda i, x, r: i.op("Pow", x, i.number(1.0)),
    "sum": lambda i, x, r: i.op("Sum", x),
    "mean": lambda i, x, r: i.op("Mean", x),
    "max": lambda i, x, r: i.op("Max", x),
    "min": lambda i, x, r: i.op("Min", x),
    "clip": lambda i, x, r: i.op("Clip", x, i.number(-np.inf), i.number(np.inf)),
    "clip_none": lambda i, x, r: i.op("Clip", x),
    "neg": lambda i, x, r: i.op("Neg", i.op("Neg", x)),
    "flatten": lambda i, x, r: i.op("Reshape", i.op("Flatten", x, axis=r - 1), i.op("Shape", x)),
    "mixed": lambda i, x, r: i.op("Dropout", i.op("Mul", i.op("Identity", x), i.number(1.0))),
}


def respelled(model: onnx.ModelProto, values: Iterable[str], kind: str) -> onnx.ModelProto:
    """A copy of ``model`` with the neutral op ``kind`` behind each of ``values``."""
    inserter = Inserter(model)
    for value in values:
        inserter.put(value, NEUTRAL[kind])
    onnx.checker.check_model(inserter.model)
    return inserter.model

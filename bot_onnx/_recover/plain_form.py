"""A model's message in the form that the converter carries best: safe names, and weights that reach their ops as data.

The converter turns the names of values into attribute names, in which two values may meet; here every value gets a
short name of its own. It also bakes the weights of MatMul and Gemm into modules, for two axes only; behind an Identity
they stay tensors, whatever their rank and side, and a Gemm is written as what it computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bot_onnx.errors import RecoverError

OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class PlainForm:
    """A message for the converter.

    Attributes:
        proto: the message.
        names: name in it by the name of each value of the original.
    """

    proto: onnx.ModelProto
    names: dict[str, str]


def plain_form(message: onnx.ModelProto) -> PlainForm:
    """Bring a message into the converter's form; it is not changed itself.

    Raises:
        RecoverError: an op belongs to another domain than ONNX's own.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(message)
    for node in _all_nodes(proto.graph):
        if node.domain not in OWN_DOMAINS:
            raise RecoverError(
                f"node {node.name!r} is a {node.domain}::{node.op_type}, which onnx2pytorch cannot carry to PyTorch: "
                "take a file that no runtime has optimised, or export its weights and train in the framework"
            )
    for port in [*proto.graph.value_info]:
        proto.graph.value_info.remove(port)
    kept = [entry for entry in proto.opset_import if entry.domain in OWN_DOMAINS]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    _lay_bare(proto.graph)
    names: dict[str, str] = {}
    _rename(proto.graph, names)
    return PlainForm(proto, names)


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from _all_nodes(inner)


def _lay_bare(graph: onnx.GraphProto) -> None:
    """Write Gemms out, and put an Identity between initializers and products."""
    stored = {tensor.name for tensor in graph.initializer}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for number, node in enumerate(nodes):
        stem = f"{node.output[0]}/plain{number}" if node.output else f"plain{number}"
        written = list(_product(node, stem)) if node.op_type == "Gemm" else [node]
        for entry in written:
            if entry.op_type == "MatMul":
                for slot, name in enumerate(entry.input):
                    if name in stored:
                        shown = f"{stem}/{slot}"
                        graph.node.append(helper.make_node("Identity", [name], [shown]))
                        entry.input[slot] = shown
        graph.node.extend(written)
        factors = [entry for entry in written if entry.op_type == "Mul" and entry is not node]
        for entry in factors:
            kind = types.get(node.input[1], onnx.TensorProto.FLOAT)
            value = np.asarray(_attribute(node, entry.name, 1.0), helper.tensor_dtype_to_np_dtype(kind))
            graph.initializer.append(numpy_helper.from_array(value, entry.input[1]))


def _product(gemm: onnx.NodeProto, stem: str) -> Iterator[onnx.NodeProto]:
    """Alpha · A' B' + beta · C, in ops; factors are inputs named after their attribute."""
    left, right = gemm.input[0], gemm.input[1]
    if _attribute(gemm, "transA", 0):
        yield helper.make_node("Transpose", [left], [f"{stem}/a"], perm=[1, 0])
        left = f"{stem}/a"
    if _attribute(gemm, "transB", 0):
        yield helper.make_node("Transpose", [right], [f"{stem}/b"], perm=[1, 0])
        right = f"{stem}/b"
    bias = gemm.input[2] if len(gemm.input) > 2 and gemm.input[2] else None
    scaled = _attribute(gemm, "alpha", 1.0) != 1.0
    product = gemm.output[0] if bias is None and not scaled else f"{stem}/product"
    yield helper.make_node("MatMul", [left, right], [product])
    if scaled:
        result = gemm.output[0] if bias is None else f"{stem}/scaled"
        yield helper.make_node("Mul", [product, f"{stem}/alpha"], [result], name="alpha")
        product = result
    if bias is not None:
        if _attribute(gemm, "beta", 1.0) != 1.0:
            yield helper.make_node("Mul", [bias, f"{stem}/beta"], [f"{stem}/bias"], name="beta")
            bias = f"{stem}/bias"
        yield helper.make_node("Add", [product, bias], [gemm.output[0]])


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(helper.get_attribute_value(attribute))
    return default


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give every value of a graph and of the bodies in it a name of its own; a name in two bodies stays one."""

    def new(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}") if name else ""

    for port in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        port.name = new(port.name)
    for node in graph.node:
        _replace(node.input, [new(name) for name in node.input])
        _replace(node.output, [new(name) for name in node.output])
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                _rename(inner, names)


def _replace(field: Sequence[str], values: list[str]) -> None:
    del field[:]  # type: ignore[attr-defined]
    field.extend(values)  # type: ignore[attr-defined]

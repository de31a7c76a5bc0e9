"""A graph as a model whose large weights are inputs: run with zeros where only shapes count, or with the weights.

So a graph of any size runs as it stands in memory, without a copy of its weights in a message (which holds 2 GiB at
most). Zeros all look at the same untouched pages: no weight is read from disk and none takes memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.tensor_protos import held_proto
from bot_onnx._onnxfile.weight_files import shown
from bot_onnx._ops.nodes import FLOATS

LARGE = 1024  #: elements from which an initializer is fed
_WIDE = "//wide"  #: ends the name of an input that is bfloat16 in the graph, which NumPy lacks

Array = NDArray[Any]
Forms = dict[str, tuple[ir.DataType, tuple[int, ...]]]


def with_fed_weights(model: ir.Model, nodes: Sequence[onnx.NodeProto]) -> tuple[onnx.ModelProto, Forms]:
    """Model of ``nodes``, without outputs yet.

    Returns the model, and type and shape of the weights that are to be fed to it, by input.
    """
    proto = onnx.ModelProto(ir_version=min(model.ir_version or 8, 10))
    for domain, version in model.opset_imports.items():
        proto.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
    graph = proto.graph
    graph.name = "observed"
    graph.input.extend(ir.serde.serialize_value(value) for value in model.graph.inputs)
    weights: Forms = {}
    used = _names_read(nodes)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if name not in used:
            continue
        if tensor.size > LARGE and tensor.dtype in FLOATS:
            fed, kind = name, ir.DataType(tensor.dtype)
            if kind == ir.DataType.BFLOAT16:
                fed, kind = name + _WIDE, ir.DataType.FLOAT
                graph.node.append(onnx.helper.make_node("Cast", [fed], [name], to=int(tensor.dtype)))
            weights[fed] = (kind, tuple(tensor.shape.numpy()))
            graph.input.append(onnx.helper.make_tensor_value_info(fed, int(kind), tensor.shape.numpy()))
        else:
            graph.initializer.append(held_proto(tensor, name))
    graph.node.extend(nodes)
    return proto, weights


def zeros(weights: Forms) -> dict[str, Array]:
    """Zeros of every type and shape, by name: views of one buffer as long as the largest of them.

    A private map that is only read costs no memory. ``np.zeros`` promises no such thing: the C library may take its
    room from memory that was freed before, and has to clear it then.
    """
    nbytes = max((prod(shape) * np.dtype(kind.numpy()).itemsize for kind, shape in weights.values()), default=0)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    blank = mmap.mmap(-1, max(nbytes, 1), **private)
    return {
        name: np.frombuffer(blank, kind.numpy(), prod(shape)).reshape(shape) for name, (kind, shape) in weights.items()
    }


def values(weights: Forms, tensors: Mapping[str, Any]) -> dict[str, Array]:
    """The weights themselves, by input, from the source's tensors by name."""
    return {
        name: np.asarray(shown(tensors[name.removesuffix(_WIDE)]), kind.numpy(), order="C")
        for name, (kind, _) in weights.items()
    }


def _names_read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of all that nodes read, in their bodies too."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                names |= _names_read(attribute.g.node) | {output.name for output in attribute.g.output}
    return names

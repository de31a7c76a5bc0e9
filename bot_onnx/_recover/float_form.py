"""The float32 form of a network that computes in half precision: what is trained in its stead.

Weights of 11 or 8 bits do not take the small steps of a training (Micikevicius et al. 2018, "Mixed Precision Training",
section 3.1), so that every float16 and bfloat16 of a message becomes float32: tensors, types of values, and the types
that ops are told to make. Casts between the two kinds, which a file in mixed precision has around its norms, are left
without an effect; where they are known as such, they go, so that what they stand in is recognised.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from bot_onnx._onnxfile.tensor_protos import all_tensors

_FLOAT: Final = onnx.TensorProto.FLOAT
#: Types that are widened, by their names.
HALVES: Final[Mapping[int, str]] = {onnx.TensorProto.FLOAT16: "FLOAT16", onnx.TensorProto.BFLOAT16: "BFLOAT16"}
#: Attributes that name a type to make or to compute in, in ops of ONNX's own domain.
_TYPES: Final = frozenset({"to", "dtype", "output_datatype", "output_dtype", "stash_type", "softmax_precision"})


def halves_of(message: onnx.ModelProto) -> frozenset[str]:
    """Names of the half types that anything in a message has: ``FLOAT16``, ``BFLOAT16``."""
    found = {tensor.data_type for _, tensor in all_tensors(message)}
    for graph in _graphs(message.graph):
        found.update(kind.elem_type for kind in _tensor_types(graph))
        found.update(entry.i for node in graph.node for entry in node.attribute if entry.name in _TYPES)
    return frozenset(HALVES[kind] for kind in found if kind in HALVES)


def widen(message: onnx.ModelProto) -> None:
    """Make float32 of all halves of a message, in place; of values that it does not hold, the type that it says."""
    rounding = _rounding(message)
    for _, tensor in all_tensors(message):
        if tensor.data_type in HALVES and tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.data_type = _FLOAT  # who reads the values widens them
        elif tensor.data_type in HALVES:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for graph in _graphs(message.graph):
        for kind in _tensor_types(graph):
            if kind.elem_type in HALVES:
                kind.elem_type = _FLOAT
        for node in graph.node:
            for entry in node.attribute:
                if entry.name in _TYPES and entry.i in HALVES:
                    entry.i = _FLOAT
    _drop(message.graph, rounding)


def _rounding(message: onnx.ModelProto) -> set[str]:
    """Results of the main graph's Casts that make one type of floats of another; where it is not known of which, none.

    Types follow from the graph alone: weights are stood for by inputs, which a message of any size has room for.
    """
    bare = onnx.ModelProto(ir_version=message.ir_version, opset_import=message.opset_import)
    bare.graph.CopyFrom(onnx.GraphProto(name="types", node=message.graph.node, input=message.graph.input))
    for tensor in message.graph.initializer:
        bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    typed = onnx.shape_inference.infer_shapes(bare).graph
    types = {port.name: port.type.tensor_type.elem_type for port in (*typed.input, *typed.value_info)}
    floats = {_FLOAT, *HALVES}
    casts = (node for node in message.graph.node if node.op_type == "Cast" and node.attribute)
    return {node.output[0] for node in casts if {types.get(node.input[0]), node.attribute[0].i} <= floats}


def _drop(graph: onnx.GraphProto, rounding: Container[str]) -> None:
    """Take Casts out whose results nothing shows and no body reads."""
    bodies = list(_graphs(graph))[1:]
    needed = {port.name for port in graph.output}
    needed |= {name for body in bodies for node in body.node for name in node.input}
    needed |= {port.name for body in bodies for port in body.output}
    instead: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = instead.get(name, name)
        made = node.output[0] if node.output else ""
        if node.op_type == "Cast" and made in rounding and made not in needed:
            instead[made] = node.input[0]
        else:
            kept.append(node)
    if instead:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for entry in node.attribute:
            for inner in [entry.g] if entry.HasField("g") else list(entry.graphs):
                yield from _graphs(inner)


def _tensor_types(graph: onnx.GraphProto) -> Iterator[onnx.TypeProto.Tensor]:
    for port in (*graph.input, *graph.output, *graph.value_info):
        kind: onnx.TypeProto | None = port.type
        while kind is not None:
            inner = kind.WhichOneof("value")
            if inner == "tensor_type":
                yield kind.tensor_type
            kind = getattr(kind, inner).elem_type if inner in ("sequence_type", "optional_type") else None

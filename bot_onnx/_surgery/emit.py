"""Write the changed graph as a message without its stacks' weights."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._canonical.control_flow import nested_protos
from bot_onnx._canonical.decompose import stored_type
from bot_onnx._onnxfile.byte_layout import TensorSlot
from bot_onnx._onnxfile.tensor_protos import held_proto
from bot_onnx._ops.nodes import FLOATS

PROVENANCE = "bot_onnx"  #: key of the metadata entry that says what made a file


def skeleton(
    analysis: Analysis, sizes: Mapping[str, int], written: set[str], provenance: Mapping[str, object]
) -> onnx.ModelProto:
    """The model message, without the initializers named in ``written``.

    Types of inner values are left out (they are stale, and follow from the graph); sizes of graph inputs and outputs
    are updated.
    """
    model = analysis.model
    proto = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name or "",
        producer_version=model.producer_version or "",
        domain=model.domain or "",
        model_version=model.model_version or 0,
        doc_string=model.doc_string or "",
    )
    for domain, version in model.opset_imports.items():
        proto.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
    metadata = {**model.metadata_props, PROVENANCE: json.dumps(provenance, sort_keys=True)}
    for key, entry in metadata.items():
        proto.metadata_props.append(onnx.StringStringEntryProto(key=key, value=entry))
    graph = proto.graph
    graph.name = model.graph.name or "main"
    graph.input.extend(_port(analysis, value, sizes) for value in model.graph.inputs)
    graph.output.extend(_port(analysis, value, sizes) for value in model.graph.outputs)
    graph.node.extend(nested_protos(model.graph))
    for name, value in model.graph.initializers.items():
        if name not in written and value.const_value is not None and any(True for _ in value.uses()):
            graph.initializer.append(held_proto(value.const_value, name))
    return proto


def _port(analysis: Analysis, value: ir.Value, sizes: Mapping[str, int]) -> onnx.ValueInfoProto:
    """A graph input or output with its new sizes; an axis that is set at run time is open, whatever the file said."""
    proto = ir.serde.serialize_value(value)
    dims = analysis.context.axes_of(value)
    shape = proto.type.tensor_type.shape
    if len(shape.dim) == len(dims):
        for entry, dim in zip(shape.dim, dims, strict=True):
            if entry.HasField("dim_value") and dim is not None:
                first, second = analysis.new_size(dim, dict(sizes))
                if first == second:
                    entry.dim_value = first
                else:
                    entry.Clear()
    return proto


def initializer_order(graph: ir.Graph) -> list[str]:
    """Names of initializers in order of first use."""
    order: dict[str, None] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value.const_value is not None:
                order.setdefault(value.name or "")
    return list(order)


def weight_slots(graph: ir.Graph, given: Container[str]) -> dict[str, TensorSlot]:
    """Slots of a graph whose sizes stay and whose weights are written anew, by name, in the types that they lie in.

    Args:
        graph: the graph.
        given: names of the initializers that get other values. Every other float tensor of more than one element has a
            slot as well: it is streamed with them, as it is.
    """
    return {
        name: TensorSlot(name, stored_type(graph.initializers[name]) or tensor.dtype, tuple(tensor.shape.numpy()))
        for name in initializer_order(graph)
        if (tensor := graph.initializers[name].const_value) is not None
        and (name in given or (tensor.dtype in FLOATS and tensor.size > 1))
    }


def untouched(
    graph: ir.Graph, slots: Mapping[str, TensorSlot], given: Container[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Values of the slots that are not ``given``, by name: as they lie in the graph, one by one."""
    for name, slot in slots.items():
        if name not in given:
            tensor = graph.initializers[name].const_value
            assert tensor is not None
            yield name, tensor.numpy().astype(ir.DataType(slot.dtype).numpy(), copy=False)

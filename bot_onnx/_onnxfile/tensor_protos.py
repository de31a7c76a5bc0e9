"""What a model's message says of its tensors: where they stand, and how long their values must be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Final

import onnx
import onnx_ir as ir

from bot_onnx.errors import GraphError

# Fields that can hold a tensor's values inside its message.
_VALUES: Final = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

_TENSOR_ATTRIBUTES: Final = frozenset(
    getattr(onnx.AttributeProto, kind)
    for kind in ("TENSOR", "TENSORS", "GRAPH", "GRAPHS", "SPARSE_TENSOR", "SPARSE_TENSORS")
)


def all_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor of a model with its name: the main graph first, then functions and training graphs.

    A tensor in an attribute is named after its node's first output (``<output>.<attribute>`` unless it is the
    ``value`` of a Constant).
    """
    yield from _in_graph(model.graph)
    for function in model.functions:
        yield from _in_nodes(function.node)
        for attribute in function.attribute_proto:
            yield from _in_attribute(attribute, f"{function.name}.{attribute.name}")
    for training in model.training_info:
        yield from _in_graph(training.initialization)
        yield from _in_graph(training.algorithm)


def _in_graph(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield from _in_sparse(sparse, sparse.values.name)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type not in _TENSOR_ATTRIBUTES and not attribute.HasField("t"):
                continue
            output = node.output[0] if node.output else node.name
            constant = node.op_type == "Constant" and attribute.name == "value"
            yield from _in_attribute(attribute, output if constant else f"{output}.{attribute.name}")


def _in_attribute(attribute: onnx.AttributeProto, name: str) -> Iterator[tuple[str, onnx.TensorProto]]:
    if attribute.HasField("t"):
        yield name, attribute.t
    for number, tensor in enumerate(attribute.tensors):
        yield f"{name}.{number}", tensor
    if attribute.HasField("g"):
        yield from _in_graph(attribute.g)
    for graph in attribute.graphs:
        yield from _in_graph(graph)
    if attribute.HasField("sparse_tensor"):
        yield from _in_sparse(attribute.sparse_tensor, name)
    for sparse in attribute.sparse_tensors:
        yield from _in_sparse(sparse, name)


def _in_sparse(sparse: onnx.SparseTensorProto, name: str) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield name, sparse.values
    yield f"{name}.indices", sparse.indices


def holds_values(proto: onnx.TensorProto) -> bool:
    """Whether any values stand in the message itself."""
    return any(len(getattr(proto, field)) for field in _VALUES)


def expected(proto: onnx.TensorProto, place: str) -> tuple[ir.DataType, tuple[int, ...], int]:
    """Read data type, shape and the length in bytes that follows from them."""
    try:
        dtype = ir.DataType(proto.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise GraphError(f"{place} has the unknown data type {proto.data_type}: a newer onnx may know it")
    shape = tuple(proto.dims)
    if any(size < 0 for size in shape):
        raise GraphError(f"{place} has a negative size in its shape {list(shape)}: export the model again")
    if dtype == ir.DataType.STRING:
        return dtype, shape, 0
    count = 1
    for size in shape:
        count *= size
    return dtype, shape, -(-count * dtype.bitwidth // 8)


# Field in which a data type's values stand one by one, and how many entries a value takes (or values an entry holds).
_TYPED: Final[dict[ir.DataType, tuple[str, float]]] = {
    ir.DataType.FLOAT: ("float_data", 1),
    ir.DataType.COMPLEX64: ("float_data", 2),
    ir.DataType.DOUBLE: ("double_data", 1),
    ir.DataType.COMPLEX128: ("double_data", 2),
    ir.DataType.INT64: ("int64_data", 1),
    ir.DataType.UINT64: ("uint64_data", 1),
    ir.DataType.UINT32: ("uint64_data", 1),
    ir.DataType.STRING: ("string_data", 1),
}


def check_typed(proto: onnx.TensorProto, dtype: ir.DataType, shape: tuple[int, ...], place: str) -> None:
    """Hold the number of values in a message without raw bytes against its shape.

    Raises:
        GraphError: there are more or fewer, or they stand in the field of another type.
    """
    packed = 8 // dtype.bitwidth if dtype != ir.DataType.STRING and dtype.bitwidth < 8 else 1
    field, each = _TYPED.get(dtype, ("int32_data", 1))
    needed = -(-prod(shape) // packed) * each
    found = {name: len(getattr(proto, name)) for name in _VALUES if len(getattr(proto, name))}
    if found != ({field: needed} if needed else {}):
        told = " and ".join(f"{count} in {name}" for name, count in found.items()) or "no values"
        kind = onnx.TensorProto.DataType.Name(proto.data_type)
        raise GraphError(
            f"{place} has {told}, but {kind} of shape {list(shape)} needs {int(needed)} in {field}: "
            "the file is damaged; download or export it again"
        )


def external_place(proto: onnx.TensorProto, place: str, nbytes: int) -> tuple[str, int, int]:
    """Read location, offset and length of a tensor's external data."""
    entries = {entry.key: entry.value for entry in proto.external_data}
    numbers = []
    for key, default in (("offset", 0), ("length", nbytes)):
        text = entries.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise GraphError(f"{place} has the {key} {text[:40]!r} in its external data: export the model again")
        numbers.append(int(text))
    return entries.get("location", ""), numbers[0], numbers[1]


def wrong_length(place: str, proto: onnx.TensorProto, found: int, expected: int) -> str:
    """Word the refusal of a tensor whose values do not fill its shape."""
    dtype = onnx.TensorProto.DataType.Name(proto.data_type)
    return (
        f"{place} has {found} bytes of values, but {dtype} of shape {list(proto.dims)} needs {expected}: "
        "the file is damaged; download or export it again"
    )


def one_line(error: BaseException | None) -> str:
    """Shorten the message of an error from elsewhere, or of the error it hides, to one line."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def held_proto(tensor: ir.TensorProtocol, name: str) -> onnx.TensorProto:
    """A tensor as a message that holds its values, also where they lie in a file so far."""
    if isinstance(tensor, ir.ExternalTensor):
        tensor = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
    tensor.name = name
    return ir.serde.serialize_tensor(tensor)

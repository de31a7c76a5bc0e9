"""A graph and its large weights apart: so a network of any size is at hand, and its weights lie in the file.

A message holds 2 GiB at most, and whatever holds one holds all weights. Here the message has their names, types and
shapes, and each is read when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from bot_onnx._onnxfile.byte_layout import SMALL_BYTES, TensorSlot
from bot_onnx._onnxfile.tensor_protos import held_proto
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError

_LARGEST: Final = 1 << 31  # bytes that a message can have


@dataclass(frozen=True, slots=True)
class Form:
    """A network.

    Attributes:
        graph: the message; of initializers in ``tensors`` without their values.
        tensors: by name, initializers in the type that they lie in; ``graph`` says in which type they are given.
    """

    graph: onnx.ModelProto
    tensors: Mapping[str, ir.TensorProtocol] = field(default_factory=dict)

    def values(self, tensor: onnx.TensorProto) -> Array:
        """Of one of the graph's initializers, in the type that the graph has it in."""
        if tensor.name not in self.tensors:
            return numpy_helper.to_array(tensor)
        return self.tensors[tensor.name].numpy().astype(ir.DataType(tensor.data_type).numpy(), copy=False)

    def write(self, path: Path) -> None:
        """Write a file that every runtime opens, its large weights beside it, one by one.

        Raises:
            OutputError: it cannot be written.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self.graph)
        apart = _taken_out(proto, self.tensors)
        slots = [TensorSlot(each.name, ir.DataType(each.data_type), tuple(each.dims)) for each in apart]
        write_model(proto, slots, ((each.name, self.values(each)) for each in apart), path, external=True)

    def whole(self, why: str = "a message is needed") -> onnx.ModelProto:
        """The message with all values.

        Args:
            why: it is needed, as a refusal says it.

        Raises:
            RecoverError: it would be larger than a message can be.
        """
        size = sum(_nbytes(tensor) for tensor in self.graph.graph.initializer)
        if size >= _LARGEST:
            raise RecoverError(
                f"{why}, which holds less than 2 GiB, and the weights have {size:,} bytes: bring them into the "
                "framework with `bot-onnx export` and train there"
            )
        proto = onnx.ModelProto()
        proto.CopyFrom(self.graph)
        for tensor in proto.graph.initializer:
            if tensor.name in self.tensors:
                kind, values = ir.DataType(tensor.data_type), self.values(tensor)
                tensor.CopyFrom(held_proto(ir.Tensor(values, dtype=kind, name=tensor.name), tensor.name))
        return proto


def apart(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Initializers of a graph that a :class:`Form` has apart, by name."""
    found = {name: value.const_value for name, value in graph.initializers.items() if any(True for _ in value.uses())}
    return {
        name: tensor
        for name, tensor in found.items()
        if tensor is not None and tensor.dtype != ir.DataType.STRING and tensor.nbytes >= SMALL_BYTES
    }


def announced(tensors: Mapping[str, ir.TensorProtocol]) -> list[onnx.TensorProto]:
    """Messages of initializers without their values."""
    elsewhere = onnx.TensorProto.EXTERNAL
    return [
        onnx.TensorProto(
            name=name, dims=tensor.shape.numpy(), data_type=tensor.dtype.value, data_location=elsewhere
        )
        for name, tensor in tensors.items()
    ]  # fmt: skip


def _taken_out(proto: onnx.ModelProto, names: Collection[str]) -> list[onnx.TensorProto]:
    """Remove initializers from a message; returns them."""
    held = list(proto.graph.initializer)
    kept = [onnx.TensorProto.FromString(each.SerializeToString()) for each in held if each.name not in names]
    found = [onnx.TensorProto.FromString(each.SerializeToString()) for each in held if each.name in names]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return found


def _nbytes(tensor: onnx.TensorProto) -> int:
    return -(-math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth // 8) if tensor.data_type != 8 else 0

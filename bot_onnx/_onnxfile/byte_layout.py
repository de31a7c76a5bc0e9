"""Where every byte of an output file goes, before a single weight exists.

All lengths are known in advance, so the message can be framed by hand around the weights: first the model without its
graph, then the graph, whose last fields are the initializers; each is a short header followed by its raw values.
Protobuf allows fields in any order, so this is an ordinary ONNX file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import onnx
import onnx_ir as ir

from bot_onnx._onnxfile.data_files import UNKNOWN, data_name, seal
from bot_onnx._onnxfile.skeleton_scan import external_entries, length_prefix
from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx.errors import OutputError

#: Protobuf messages end at 2 GiB - 1; above this size (1 MiB less) the weights go to a file of their own.
INLINE_LIMIT: Final = 2**31 - 1 - 2**20

#: Tensors below this many bytes stay in the model file in any case: shape inference reads their values.
SMALL_BYTES: Final = 1024

#: Offsets in a data file are multiples of this: a cache line, and the widest vector load.
ALIGNMENT: Final = 64

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """An initializer to come: its name, data type and shape."""

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Length of the raw values; types below 8 bits are packed."""
        return -(-math.prod(self.shape) * ir.DataType(self.dtype).bitwidth // 8)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tensor's raw values go: which file, from which byte on, how many bytes."""

    file: Literal["model", "data"]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole output without its weights.

    Attributes:
        slots: the tensors by name, in file order.
        placements: tensor name -> where its values go.
        framing: ``(offset, bytes)`` of everything else in the model file.
        model_bytes, data_bytes: sizes of the two files; ``data_bytes`` is 0 where all weights are inline.
        data_name: name of the data file beside the model file, or None.
        seal: what stands at the end of the data file.
    """

    slots: dict[str, TensorSlot]
    placements: dict[str, Placement]
    framing: tuple[tuple[int, bytes], ...]
    model_bytes: int
    data_bytes: int
    data_name: str | None
    seal: bytes

    @property
    def total_bytes(self) -> int:
        """Bytes on disk."""
        return self.model_bytes + self.data_bytes


def layout(
    proto: onnx.ModelProto, slots: Sequence[TensorSlot], name: str, *, external: bool = False, digest: str = UNKNOWN
) -> Layout:
    """Plan the bytes of an output. No place and no length depends on the digest.

    Args:
        proto: the model without the tensors in ``slots``; initializers that it holds itself are kept as they are.
        slots: the initializers to write, in the order in which they shall stand in the file.
        name: file name of the output; external data goes to a file named after it and its digest.
        external: put the weights there even if one file could hold them all; more than 2 GiB always go there.
        digest: hex SHA-256 of the weights in the data file, once they are known.

    Raises:
        OutputError: a name occurs twice, a slot has no fixed length, ``proto`` still refers to values in another
            file, or the structure alone is too large for protobuf.
    """
    _check(proto, slots)
    if not external:
        plan = _lay_out(proto, slots, None, digest)
        if plan.model_bytes <= INLINE_LIMIT:
            return plan
    plan = _lay_out(proto, slots, data_name(name, digest), digest)
    if plan.model_bytes > INLINE_LIMIT:
        raise OutputError(
            f"{name} would have {plan.model_bytes} bytes without its weights, more than an ONNX file can hold: "
            "choose a smaller target"
        )
    return plan


def _check(proto: onnx.ModelProto, slots: Sequence[TensorSlot]) -> None:
    taken = {tensor.name for tensor in proto.graph.initializer}
    for slot in slots:
        if slot.name in taken:
            raise OutputError(f"two initializers of the output are called {slot.name!r}: rename one in the source")
        taken.add(slot.name)
        if slot.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED) or any(size < 0 for size in slot.shape):
            raise OutputError(f"tensor {slot.name!r} ({slot.dtype}, shape {slot.shape}) has no fixed length on disk")
    for name, tensor in all_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise OutputError(f"tensor {name!r} of the output still refers to the source's values: give it a slot")


def _lay_out(proto: onnx.ModelProto, slots: Sequence[TensorSlot], location: str | None, digest: str) -> Layout:
    placements: dict[str, Placement] = {}
    headers: list[bytes] = []
    graph = proto.graph.SerializeToString(deterministic=True)
    graph_bytes, data_bytes = len(graph), 0
    for slot in slots:
        inline = location is None or slot.nbytes < SMALL_BYTES
        if inline:
            header = _tensor(slot) + length_prefix(_RAW_DATA, slot.nbytes)
            header = length_prefix(_INITIALIZER, len(header) + slot.nbytes) + header
            placements[slot.name] = Placement("model", graph_bytes + len(header), slot.nbytes)  # from the graph's start
            graph_bytes += len(header) + slot.nbytes
        else:
            offset = -(-data_bytes // ALIGNMENT) * ALIGNMENT
            header = _tensor(slot) + external_entries(str(location), offset, slot.nbytes)
            header = length_prefix(_INITIALIZER, len(header)) + header
            placements[slot.name] = Placement("data", offset, slot.nbytes)
            graph_bytes += len(header)
            data_bytes = offset + slot.nbytes
        headers.append(header)
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    start = rest.SerializeToString(deterministic=True) + length_prefix(_GRAPH, graph_bytes)
    framing, position = [(0, start + graph)], len(start) + len(graph)
    for slot, header in zip(slots, headers, strict=True):
        framing.append((position, header))
        position += len(header)
        if (place := placements[slot.name]).file == "model":
            placements[slot.name] = Placement("model", len(start) + place.offset, place.nbytes)
            position += slot.nbytes
    used = location if data_bytes else None
    end = seal(digest) if data_bytes else b""
    whole = data_bytes + len(end)
    return Layout({slot.name: slot for slot in slots}, placements, tuple(framing), position, whole, used, end)


def _tensor(slot: TensorSlot) -> bytes:
    proto = onnx.TensorProto(dims=slot.shape, data_type=int(slot.dtype), name=slot.name)
    return bytes(proto.SerializeToString(deterministic=True))

"""Where every byte of an output file goes, before a single weight exists.

All lengths are known in advance, so the message can be framed by hand around the weights: first the model without its
graph, then the graph, whose last fields are the initializers; each is a short header followed by its raw values.
Protobuf allows fields in any order, so this is an ordinary ONNX file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import onnx
import onnx_ir as ir

from bot_onnx._onnxfile.data_files import SEAL_BYTES, UNKNOWN, data_key, data_name, seal
from bot_onnx._onnxfile.skeleton_scan import external_entries, length_prefix
from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx._shards import External, Shards
from bot_onnx.errors import OutputError

#: Protobuf messages end at 2 GiB - 1; above this size (1 MiB less) the weights go to a file of their own.
INLINE_LIMIT: Final = 2**31 - 1 - 2**20

#: Tensors below this many bytes stay in the model file in any case: shape inference reads their values.
SMALL_BYTES: Final = 1024

#: Offsets in a data file are multiples of this: a cache line, and the widest vector load.
ALIGNMENT: Final = 64

#: Data files of one model: they are open at the same time, here and in every runtime.
MOST_FILES: Final = 1000

MODEL: Final = "model"  #: what placements call the model file

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
    """Where a tensor's raw values go: which file (``model``, or a data file's key), from which byte on, how many."""

    file: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of weights beside the model.

    Attributes:
        key: what placements call it. name: its name. nbytes: its length. seal: what stands at its end.
    """

    key: str
    name: str
    nbytes: int
    seal: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole output without its weights.

    Attributes:
        slots: the tensors by name, in file order.
        placements: tensor name -> where its values go.
        framing: ``(offset, bytes)`` of everything else in the model file.
        model_bytes: size of the model file. data: the files beside it.
    """

    slots: dict[str, TensorSlot]
    placements: dict[str, Placement]
    framing: tuple[tuple[int, bytes], ...]
    model_bytes: int
    data: tuple[DataFile, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Bytes on disk."""
        return self.model_bytes + sum(file.nbytes for file in self.data)

    def within(self, file: str) -> list[str]:
        """Names of the tensors in a file, in the order in which they lie there."""
        return [name for name, place in self.placements.items() if place.file == file]


def layout(
    proto: onnx.ModelProto,
    slots: Sequence[TensorSlot],
    name: str,
    *,
    external: External = False,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> Layout:
    """Plan the bytes of an output. No place and no length depends on the digests.

    Args:
        proto: the model without the tensors in ``slots``; initializers that it holds itself are kept as they are.
        slots: the initializers to write, in the order in which they shall stand in the file.
        name: file name of the output; external data goes to files named after it and their digests.
        external: put the weights there even if one file could hold them all; more than 2 GiB always go there. In the
            order of ``slots`` they fill one file after the other, each as far as its limit lets the next one in.
        digests: hex SHA-256 of the weights in the data files, by their keys, once they are known.

    Raises:
        OutputError: a name occurs twice, a slot has no fixed length, ``proto`` still refers to values in another
            file, the structure alone is too large for protobuf, or the files would be too many.
    """
    _check(proto, slots)
    if not external:
        plan = _lay_out(proto, slots, {}, {})
        if plan.model_bytes <= INLINE_LIMIT:
            return plan
    places, files = _beside(slots, name, external.limit if isinstance(external, Shards) else None, digests)
    plan = _lay_out(proto, slots, places, files)
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


def _beside(
    slots: Sequence[TensorSlot], name: str, limit: int | None, digests: Mapping[str, str]
) -> tuple[dict[str, Placement], dict[str, DataFile]]:
    """Where the large tensors lie in files beside the model, and these files by their keys, in their order."""
    numbers: dict[str, tuple[int, int, int]] = {}  # tensor -> number of its file, offset, bytes
    ends: list[int] = []
    for slot in slots:
        if slot.nbytes < SMALL_BYTES:
            continue
        offset = -(-ends[-1] // ALIGNMENT) * ALIGNMENT if ends else 0
        if not ends or (limit is not None and offset + slot.nbytes + SEAL_BYTES > limit):
            offset = 0
            ends.append(0)
        numbers[slot.name] = len(ends), offset, slot.nbytes
        ends[-1] = offset + slot.nbytes
    if len(ends) > MOST_FILES:
        raise OutputError(
            f"{name} would have its weights in {len(ends)} files of {limit} bytes, which no system opens at once: "
            f"{MOST_FILES} at most; choose a larger --shard-size"
        )
    keys = [data_key(number, len(ends)) for number in range(1, len(ends) + 1)]
    files: dict[str, DataFile] = {}
    for number, (key, end) in enumerate(zip(keys, ends, strict=True), 1):
        digest = digests.get(key, UNKNOWN)
        files[key] = DataFile(key, data_name(name, digest, number, len(ends)), end + SEAL_BYTES, seal(digest))
    return {slot: Placement(keys[number - 1], *place) for slot, (number, *place) in numbers.items()}, files


def _lay_out(
    proto: onnx.ModelProto, slots: Sequence[TensorSlot], beside: Mapping[str, Placement], files: Mapping[str, DataFile]
) -> Layout:
    placements: dict[str, Placement] = {}
    headers: list[bytes] = []
    graph = proto.graph.SerializeToString(deterministic=True)
    graph_bytes = len(graph)
    for slot in slots:
        place = beside.get(slot.name)
        if place is None:
            header = _tensor(slot) + length_prefix(_RAW_DATA, slot.nbytes)
            header = length_prefix(_INITIALIZER, len(header) + slot.nbytes) + header
            placements[slot.name] = Placement(MODEL, graph_bytes + len(header), slot.nbytes)  # from the graph's start
            graph_bytes += len(header) + slot.nbytes
        else:
            header = _tensor(slot) + external_entries(files[place.file].name, place.offset, slot.nbytes)
            header = length_prefix(_INITIALIZER, len(header)) + header
            placements[slot.name] = place
            graph_bytes += len(header)
        headers.append(header)
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    start = rest.SerializeToString(deterministic=True) + length_prefix(_GRAPH, graph_bytes)
    framing, position = [(0, start + graph)], len(start) + len(graph)
    for slot, header in zip(slots, headers, strict=True):
        framing.append((position, header))
        position += len(header)
        if (place := placements[slot.name]).file == MODEL:
            placements[slot.name] = Placement(MODEL, len(start) + place.offset, place.nbytes)
            position += slot.nbytes
    return Layout({slot.name: slot for slot in slots}, placements, tuple(framing), position, tuple(files.values()))


def _tensor(slot: TensorSlot) -> bytes:
    proto = onnx.TensorProto(dims=slot.shape, data_type=int(slot.dtype), name=slot.name)
    return bytes(proto.SerializeToString(deterministic=True))

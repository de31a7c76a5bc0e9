"""A model file without its weights: a scanner over protobuf's wire format.

An ONNX file is one protobuf message, and protobuf can only be parsed whole. This scanner walks the file's framing
instead, steps over the bytes of every large tensor, and yields a *skeleton*: the same message, in which such a tensor
says where in the file its values lie (``data_location = EXTERNAL``). Neither time nor memory grows with the weights.

Only messages longer than the threshold are entered, since no other can hold a large tensor; the rest is copied as it
is and left to protobuf. Wire format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import onnx
from google.protobuf.message import DecodeError

from bot_onnx.errors import GraphError

#: Tensors up to this many bytes stay in the skeleton: shape arithmetic and structure checks read them.
INLINE_BYTES: Final = 16384

#: Messages may nest this deep, as in protobuf's own parsers.
MAX_DEPTH: Final = 100

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

# Message types and, for each, the fields that can lead to a tensor (field numbers of onnx.proto).
_CHILDREN: Final[dict[str, dict[int, str]]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
}

# Fields of an attribute that hold one number or word each; how many fields are looked at to see whether it is a list
# of them, and the longest attribute that is parsed for it.
_LISTED: Final = frozenset({7, 8, 9})
_PROBED: Final = 64
_PARSED: Final = 1 << 28

_DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 2, 9, 13, 14

# Packed fields whose bytes are exactly what raw_data would hold, for the data type that owns them:
# float_data of FLOAT (1) and double_data of DOUBLE (11).
_PACKED_AS_RAW: Final = {4: 1, 10: 11}


class Walk(Protocol):
    """Bytes that come here where the walk comes to them."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, at: int) -> int:
        """One of them."""

    def view(self) -> Any:
        """What gives runs of them, as a ``memoryview`` does, until it is released."""


Buffer = bytes | mmap.mmap | Walk


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes of the file that the skeleton leaves out: one tensor's values, little-endian, without padding."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message as it stands in the file.

    Attributes:
        number: the field number.
        wire_type: how the value is encoded (``LENGTH`` for messages, strings and packed lists).
        start: position of the tag.
        value_start: position of the value (behind the length, where there is one).
        end: position behind the value.
    """

    number: int
    wire_type: int
    start: int
    value_start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Length of the value in bytes."""
        return self.end - self.value_start


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A serialised ``ModelProto`` without its large tensors' values, and what was left out, in file order."""

    data: bytes
    cuts: tuple[Cut, ...]


def scan(buffer: Buffer, location: str, inline_bytes: int = INLINE_BYTES) -> Skeleton:
    """Cut the large tensors' values out of a serialised ``ModelProto``.

    Args:
        buffer: the file, usually a memory map; the bytes of large tensors are never touched.
        location: what a cut tensor's ``external_data`` names as its file; offset and length count from its start.
        inline_bytes: values up to this long stay where they are.

    Returns:
        The skeleton, a message that protobuf parses in the usual way.

    Raises:
        GraphError: the framing is broken; the message gives the byte position.
    """
    return _Scanner(buffer, location, inline_bytes).run()


def fields(buffer: Buffer, start: int, end: int, what: str = "message") -> Iterator[Field]:
    """Iterate over the fields of the message in ``buffer[start:end]`` without reading long values.

    Raises:
        GraphError: a tag or length is malformed, or a value reaches past ``end``.
    """
    position = start
    while position < end:
        tag, value = read_varint(buffer, position, end, what)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise _broken(position, what, f"field number {number} does not exist")
        if wire_type == LENGTH:
            length, value = read_varint(buffer, value, end, what)
            stop = value + length
        elif wire_type == VARINT:
            _, stop = read_varint(buffer, value, end, what)
        elif wire_type == FIXED32:
            stop = value + 4
        elif wire_type == FIXED64:
            stop = value + 8
        else:
            raise _broken(position, what, f"wire type {wire_type} of field {number} is not in use")
        if stop > end:
            raise _broken(position, what, f"field {number} should reach to byte {stop}, the {what} ends at {end}")
        yield Field(number, wire_type, position, value, stop)
        position = stop


def read_varint(buffer: Buffer, position: int, end: int, what: str = "message") -> tuple[int, int]:
    """Decode the base-128 varint at ``position``; return its value and the position behind it."""
    result = shift = 0
    at = position
    while at < end:
        byte = buffer[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise _broken(position, what, "a number is longer than 10 bytes")
    raise _broken(position, what, f"a number runs past the end of the {what} at {end}")


def varint(value: int) -> bytes:
    """Encode a non-negative integer as a base-128 varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def length_prefix(number: int, nbytes: int) -> bytes:
    """Encode tag and length of the length-delimited field ``number`` that is ``nbytes`` long."""
    return varint(number << 3 | LENGTH) + varint(nbytes)


def external_entries(location: str, offset: int, nbytes: int) -> bytes:
    """Encode the ``TensorProto`` fields that place a tensor's values in a file (``external_data``, location)."""
    entries = bytearray()
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(nbytes))):
        encoded = value.encode()
        entry = length_prefix(1, len(key)) + key.encode() + length_prefix(2, len(encoded)) + encoded
        entries += length_prefix(_EXTERNAL_DATA, len(entry)) + entry
    return bytes(entries) + varint(_DATA_LOCATION << 3 | VARINT) + b"\x01"


def _broken(position: int, what: str, why: str) -> GraphError:
    return GraphError(
        f"broken ONNX file at byte {position}: {why} ({what}); the file is truncated, damaged or not ONNX at all: "
        "download or export it again"
    )


class _Rewritten:
    """A message put together from runs of the original and from new bytes, without copying either."""

    __slots__ = ("length", "pieces")

    def __init__(self) -> None:
        self.pieces: list[memoryview | bytes] = []
        self.length = 0

    def add(self, piece: memoryview | bytes) -> None:
        if piece:
            self.pieces.append(piece)
            self.length += len(piece)

    def nest(self, number: int, child: _Rewritten) -> None:
        self.add(length_prefix(number, child.length))
        self.pieces += child.pieces
        self.length += child.length


class _Scanner:
    def __init__(self, buffer: Buffer, location: str, inline_bytes: int) -> None:
        self.buffer = buffer
        self.view: Any = memoryview(buffer) if isinstance(buffer, bytes | mmap.mmap) else buffer.view()
        self.location = location
        self.inline_bytes = inline_bytes
        self.cuts: list[Cut] = []

    def run(self) -> Skeleton:
        whole: _Rewritten | None = None
        try:
            whole = self.message("ModelProto", 0, len(self.buffer), 0)
            return Skeleton(b"".join(whole.pieces), tuple(self.cuts))
        finally:
            if whole is not None:
                whole.pieces.clear()  # memory views keep the map from being closed
            self.view.release()

    def message(self, kind: str, start: int, end: int, depth: int) -> _Rewritten:
        if depth > MAX_DEPTH:
            raise _broken(start, kind, f"messages nest more than {MAX_DEPTH} deep")
        if kind == "TensorProto":
            return self.tensor(start, end)
        children = _CHILDREN[kind]
        rewritten = _Rewritten()
        if kind == "AttributeProto" and self.is_list(start, end):
            rewritten.add(self.view[start:end])
            return rewritten
        copied = start
        for field in fields(self.buffer, start, end, kind):
            child = children.get(field.number)
            if child is None or field.wire_type != LENGTH or field.nbytes <= self.inline_bytes:
                continue
            rewritten.add(self.view[copied : field.start])
            rewritten.nest(field.number, self.message(child, field.value_start, field.end, depth + 1))
            copied = field.end
        rewritten.add(self.view[copied:end])
        return rewritten

    def is_list(self, start: int, end: int) -> bool:
        """Whether an attribute is a long list of numbers or words: a field each, millions in an ensemble of trees.

        Protobuf's own parser then says faster than a walk over them that nothing else is there.
        """
        first = list(islice(fields(self.buffer, start, end, "AttributeProto"), _PROBED))
        if sum(field.number in _LISTED for field in first) < _PROBED // 2 or end - start > _PARSED:
            return False
        attribute = onnx.AttributeProto()
        try:
            attribute.ParseFromString(self.view[start:end])
        except DecodeError:
            return False  # the walk finds the place
        return not any(field.number in _CHILDREN["AttributeProto"] for field, _ in attribute.ListFields())

    def tensor(self, start: int, end: int) -> _Rewritten:
        rewritten = _Rewritten()
        values = self.values(start, end)
        if values is None:
            rewritten.add(self.view[start:end])
            return rewritten
        self.cuts.append(Cut(values.value_start, values.nbytes))
        rewritten.add(self.view[start : values.start])
        rewritten.add(self.view[values.end : end])
        rewritten.add(external_entries(self.location, values.value_start, values.nbytes))
        return rewritten

    def values(self, start: int, end: int) -> Field | None:
        """Find the one field that holds the tensor's values, if it is large and laid out as raw bytes."""
        data_type, external = 0, False
        seen: dict[int, list[Field]] = {}
        for field in fields(self.buffer, start, end, "TensorProto"):
            if field.number == _DATA_TYPE and field.wire_type == VARINT:
                data_type, _ = read_varint(self.buffer, field.value_start, field.end, "TensorProto")
            elif field.number == _EXTERNAL_DATA:
                external = True
            elif field.number == _RAW_DATA or field.number in _PACKED_AS_RAW:
                seen.setdefault(field.number, []).append(field)
                del seen[field.number][2:]  # that there are several is all that counts
        if not any(field.nbytes > self.inline_bytes for found in seen.values() for field in found):
            return None
        raw = seen.get(_RAW_DATA, [])
        if raw and (len(seen) > 1 or len(raw) > 1 or external):
            raise _broken(start, "TensorProto", "a tensor gives its values twice")
        for number, found in seen.items():
            if len(found) == 1 and found[0].wire_type == LENGTH and data_type == _PACKED_AS_RAW.get(number, data_type):
                return found[0] if len(seen) == 1 and not external else None
        return None

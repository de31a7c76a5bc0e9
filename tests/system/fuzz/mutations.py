"""Damage to a model: field by field as protobuf sees it, by what a field means, and byte by byte."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._surgery.emit import PROVENANCE
from tests.system.fuzz.seeds import to_typed
from tests.system.fuzz.texts import damage_json, damage_text

Damage = Callable[[onnx.ModelProto, random.Random], str]
_INTEGERS = (0, -1, 1, 2, 3, 7, 255, 1000, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -1.0, math.nan, math.inf, -math.inf, 1e38, 1e-45)
_OPS = (
    "Add MatMul Relu Reshape Concat Split Slice Gather Transpose Identity Constant If Loop Scan Cast Shape Softmax "
    "Gemm Conv LSTM Squeeze Unsqueeze TopK NonZero Resize Where Expand Einsum Attention RotaryEmbedding QLinearConv "
    "Dropout SequenceEmpty Optional Frobnicate"
).split()
_ATTRIBUTES: tuple[Any, ...] = (1, 2.5, "text", [1, 2], [0.5], ["a", "b"], [], -(2**63), 2**63 - 1, [2**40] * 3)


def messages(message: Any, depth: int = 0) -> Iterator[Any]:
    """A message and all messages in it."""
    yield message
    for descriptor, content in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE and depth < 30:
            for inner in content if descriptor.is_repeated else (content,):
                yield from messages(inner, depth + 1)


def _fields(model: onnx.ModelProto, kinds: tuple[int, ...] = (), repeated: bool | None = None) -> list[tuple[Any, Any]]:
    """Messages with one of their fields that is set: of some types, or repeated ones."""
    return [
        (message, descriptor)
        for message in messages(model)
        for descriptor, _ in message.ListFields()
        if (not kinds or descriptor.type in kinds) and (repeated is None or descriptor.is_repeated == repeated)
    ]


def _pick(found: list[Any], rng: random.Random) -> Any:
    if not found:
        raise LookupError("nothing of this kind to damage")
    return rng.choice(found)


def _place(message: Any, descriptor: Any) -> str:
    name = getattr(message, "name", "") if hasattr(message, "name") else ""
    return f"{message.DESCRIPTOR.name}({name!r}).{descriptor.name}"


def delete(model: onnx.ModelProto, rng: random.Random) -> str:
    message, descriptor = _pick(_fields(model), rng)
    if descriptor.is_repeated and rng.random() < 0.8:
        content = getattr(message, descriptor.name)
        del content[rng.randrange(len(content))]
    else:
        message.ClearField(descriptor.name)
    return f"delete {_place(message, descriptor)}"


def duplicate(model: onnx.ModelProto, rng: random.Random) -> str:
    message, descriptor = _pick(_fields(model, repeated=True), rng)
    content = getattr(message, descriptor.name)
    content.extend([content[rng.randrange(len(content))]] * rng.choice((1, 1, 2, 50)))
    return f"duplicate {_place(message, descriptor)}"


def swap(model: onnx.ModelProto, rng: random.Random) -> str:
    lists = [(m, d) for m, d in _fields(model, repeated=True) if len(getattr(m, d.name)) > 1]
    message, descriptor = _pick(lists, rng)
    content = list(getattr(message, descriptor.name))
    a, b = rng.sample(range(len(content)), 2)
    content[a], content[b] = content[b], content[a]
    copies = [
        type(item).FromString(item.SerializeToString()) if hasattr(item, "CopyFrom") else item for item in content
    ]
    message.ClearField(descriptor.name)
    getattr(message, descriptor.name).extend(copies)
    return f"swap {_place(message, descriptor)}"


def exchange(model: onnx.ModelProto, rng: random.Random) -> str:
    """Copy one message over another one of its kind."""
    by_kind: dict[str, list[Any]] = {}
    for message in messages(model):
        by_kind.setdefault(message.DESCRIPTOR.name, []).append(message)
    kind = _pick(sorted(kind for kind, found in by_kind.items() if len(found) > 1), rng)
    source, target = rng.sample(by_kind[kind], 2)
    copy = type(source).FromString(source.SerializeToString())
    target.CopyFrom(copy)
    return f"copy one {kind} over another"


def number(model: onnx.ModelProto, rng: random.Random) -> str:
    d = onnx.NodeProto.DESCRIPTOR.fields[0]
    floating = (d.TYPE_FLOAT, d.TYPE_DOUBLE)
    kinds = (d.TYPE_INT32, d.TYPE_INT64, d.TYPE_UINT64, d.TYPE_ENUM, *floating)
    message, descriptor = _pick(_fields(model, kinds), rng)
    value = rng.choice(_FLOATS if descriptor.type in floating else _INTEGERS)
    try:
        if descriptor.is_repeated:
            content = getattr(message, descriptor.name)
            content[rng.randrange(len(content))] = value
        else:
            setattr(message, descriptor.name, value)
    except ValueError:  # out of the field's range
        return number(model, rng)
    return f"{_place(message, descriptor)} = {value}"


def text(model: onnx.ModelProto, rng: random.Random) -> str:
    d = onnx.NodeProto.DESCRIPTOR.fields[0]
    message, descriptor = _pick(_fields(model, (d.TYPE_STRING,)), rng)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    value = _pick([*names, *damage_text(rng)], rng)
    if descriptor.is_repeated:
        content = getattr(message, descriptor.name)
        content[rng.randrange(len(content))] = value
    else:
        setattr(message, descriptor.name, value)
    return f"{_place(message, descriptor)} = {value[:40]!r}"


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    return [message for message in messages(model) if isinstance(message, TensorProto)]


def counts(model: onnx.ModelProto, rng: random.Random) -> str:
    """Too many or too few values in the field of a tensor's type, or the field of another type."""
    if rng.random() < 0.5:
        with suppress(ValueError, TypeError):  # damaged already
            to_typed(model)
    tensor = _pick(_tensors(model), rng)
    names = [name for name in ("float_data", "int32_data", "int64_data", "double_data", "string_data", "uint64_data")]
    held = [name for name in names if len(getattr(tensor, name))]
    if held and rng.random() < 0.5:
        del getattr(tensor, held[0])[rng.randrange(len(getattr(tensor, held[0]))) :]
        return f"fewer {held[0]} in {tensor.name!r}"
    name = rng.choice(names)
    getattr(tensor, name).extend([b"\xff"] if name == "string_data" else [1] * rng.choice((1, 5)))
    return f"more {name} in {tensor.name!r}"


def shape(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = _pick([tensor for tensor in _tensors(model) if tensor.dims], rng)
    dims = list(tensor.dims)
    axis = rng.randrange(len(dims))
    change = rng.randrange(6)
    if change == 0:
        dims[axis] = rng.choice((*_INTEGERS, -1))
    elif change == 1:
        dims.insert(axis, rng.choice((0, 1, 2, -1)))
    elif change == 2:
        del dims[axis]
    elif change == 3:
        dims.reverse()
    elif change == 4:
        dims = [math.prod(dims)]
    else:
        dims = [2**20] * rng.choice((2, 3, 40))
    tensor.dims[:] = dims
    return f"{tensor.name!r} has the shape {dims[:5]}"


def retype(model: onnx.ModelProto, rng: random.Random) -> str:
    """Another element type, of a tensor or of a declared value."""
    value = rng.choice((0, 0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 18, 21, 22, 23, 24, 25, 26, 99, -1, 2**31 - 1))
    kinds = (TensorProto, onnx.TypeProto.Tensor)
    message = _pick([message for message in messages(model) if isinstance(message, kinds)], rng)
    setattr(message, "data_type" if isinstance(message, TensorProto) else "elem_type", value)
    return f"element type {value} in {message.DESCRIPTOR.name}({getattr(message, 'name', '')!r})"


def values(model: onnx.ModelProto, rng: random.Random) -> str:
    """Other numbers in a tensor: odd ones, zeros, or another dtype and shape altogether."""
    tensor = _pick([t for t in _tensors(model) if t.HasField("raw_data")], rng)
    try:
        array = numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise LookupError("damaged already") from None
    pool = _FLOATS if array.dtype.kind == "f" else _INTEGERS
    if array.size and rng.random() < 0.7:
        with np.errstate(all="ignore"):
            fits = [v for v in pool if array.dtype.kind == "f" or np.iinfo(np.int64).min <= v <= np.iinfo(np.int64).max]
            array.reshape(-1)[rng.randrange(array.size)] = np.array(rng.choice(fits)).astype(array.dtype)
    else:
        array = rng.choice((np.zeros_like(array), array[..., :0] if array.ndim else array, array.astype(np.int64)))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"other values in {tensor.name!r}"


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [message for message in messages(model) if isinstance(message, onnx.NodeProto)]


def attribute(model: onnx.ModelProto, rng: random.Random) -> str:
    """An attribute of another type, a reference outside of a function, or one that is too much."""
    node = _pick(_nodes(model), rng)
    known = list(node.attribute)
    kind = rng.randrange(4)
    if kind == 0 and known:
        chosen = rng.choice(known)
        chosen.ref_attr_name = rng.choice(("slope", "axis", "nothing"))
        if rng.random() < 0.5:
            for name in ("f", "i", "s", "t", "g", "floats", "ints", "strings"):
                chosen.ClearField(name)
        return f"{node.op_type}.{chosen.name} refers to {chosen.ref_attr_name!r}"
    if kind == 1 and known:
        chosen = rng.choice(known)
        chosen.type = rng.choice([v for v in onnx.AttributeProto.AttributeType.values() if v != chosen.type])
        return f"{node.op_type}.{chosen.name} says type {chosen.type}"
    content: Any = rng.choice(_ATTRIBUTES) if rng.random() < 0.8 else rng.choice([*_tensors(model), TensorProto()])
    name = rng.choice(known).name if known and kind < 3 else rng.choice(("axis", "axes", "perm", "to", "alpha", "body"))
    made = helper.make_attribute(name, content, attr_type=onnx.AttributeProto.INTS if content == [] else None)
    keep = [a for a in known if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*keep, made])
    return f"{node.op_type}.{name} = {str(content)[:40]!r}"


def wiring(model: onnx.ModelProto, rng: random.Random) -> str:
    """A node reads or makes another value: cycles, values made twice, values that nobody makes."""
    node = _pick(_nodes(model), rng)
    every = sorted({name for other in _nodes(model) for name in (*other.input, *other.output)})
    names = [*every, *(tensor.name for tensor in model.graph.initializer), "", "nowhere"]
    side = node.input if node.input and (rng.random() < 0.7 or not node.output) else node.output
    change = rng.randrange(3)
    if change == 0 and side:
        side[rng.randrange(len(side))] = rng.choice(names)
    elif change == 1 or not side:
        side.append(rng.choice(names))
    else:
        del side[rng.randrange(len(side))]
    return f"{node.op_type} ({node.name!r}): {list(node.input)[:4]} -> {list(node.output)[:4]}"


def operator(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _pick(_nodes(model), rng)
    before = node.op_type
    node.op_type = rng.choice(_OPS)
    if rng.random() < 0.1:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "local", "nowhere"))
    return f"{before} ({node.name!r}) became {node.domain} {node.op_type}"


def version(model: onnx.ModelProto, rng: random.Random) -> str:
    if rng.random() < 0.3 or not model.opset_import:
        model.ir_version = rng.choice((0, 1, 2, 3, 4, 13, 99, -1, 2**62))
        return f"IR version {model.ir_version}"
    entry = rng.choice(model.opset_import)
    entry.version = rng.choice((*range(1, 27), 0, -1, 99, 2**62))
    return f"opset {entry.domain!r} {entry.version}"


def port(model: onnx.ModelProto, rng: random.Random) -> str:
    """A graph input or output of another shape or kind."""
    value = _pick([*model.graph.input, *model.graph.output], rng)
    change = rng.randrange(5)
    if change == 0:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif change == 1:
        value.type.map_type.key_type = 7
    elif change == 2:
        value.type.Clear()
    else:
        dims = value.type.tensor_type.shape.dim
        odd = [
            helper.make_tensor_value_info("v", 1, [size]) for size in (rng.choice(_INTEGERS), "n", "n*2", "", "batch")
        ]
        made = rng.choice(odd).type.tensor_type.shape.dim[0]
        if change == 3 and dims:
            dims[rng.randrange(len(dims))].CopyFrom(made)
        else:
            dims.append(made)
    return f"port {value.name!r} changed"


def provenance(model: onnx.ModelProto, rng: random.Random) -> str:
    """What the file says of its source: no object, no JSON, or JSON with other content."""
    entries = [entry for entry in model.metadata_props if entry.key == PROVENANCE]
    if not entries:
        entries = [model.metadata_props.add(key=PROVENANCE, value='{"promise": {"kept": true}, "sizes": {}}')]
    damaged = damage_json(entries[0].value.encode(), rng)
    entries[0].value = damaged.decode("utf-8", "replace")
    return f"provenance {entries[0].value[:40]!r}"


def metadata(model: onnx.ModelProto, rng: random.Random) -> str:
    key = rng.choice((PROVENANCE, "bot_onnx.repairs", "names", "", "a\nb"))
    model.metadata_props.add(key=key, value=rng.choice(("[]", "null", "3", "{", '"x"', json.dumps({"a": [1] * 9}), "")))
    return f"metadata {key!r}"


def outside(model: onnx.ModelProto, rng: random.Random) -> str:
    """External data that lie elsewhere, begin elsewhere, or are said of values that are inside."""
    tensors = [t for t in _tensors(model) if t.data_location == TensorProto.EXTERNAL]
    tensor = _pick(tensors or _tensors(model), rng)
    tensor.data_location = rng.choice((TensorProto.EXTERNAL, TensorProto.EXTERNAL, TensorProto.DEFAULT))
    key = rng.choice(("location", "offset", "length", "checksum", "other"))
    told = (
        "",
        "0",
        "-1",
        "1",
        str(2**63),
        "x",
        "/etc/hostname",
        "../x",
        "gone.bin",
        "model.onnx",
        "first.bin",
        "٣",
        "a\0b",
    )
    value = rng.choice(told)
    entry = next((entry for entry in tensor.external_data if entry.key == key), None) or tensor.external_data.add(
        key=key
    )
    entry.value = value
    return f"{tensor.name!r}: external {key} {value!r}"


#: What is done to a message, with how often.
MESSAGES: dict[Damage, int] = {
    delete: 4,
    duplicate: 2,
    swap: 2,
    exchange: 2,
    number: 4,
    text: 3,
    counts: 3,
    shape: 3,
    retype: 3,
    values: 2,
    attribute: 4,
    wiring: 4,
    operator: 2,
    version: 1,
    port: 2,
    provenance: 1,
    metadata: 1,
    outside: 1,
}


def damage_model(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Damage a serialised model; returns it, and what was done."""
    model = onnx.ModelProto.FromString(data)
    done = []
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        change = rng.choices(list(MESSAGES), list(MESSAGES.values()))[0]
        try:
            done.append(change(model, rng))
        except LookupError:
            continue
    return model.SerializeToString(), done


def break_text(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Make a text in a serialised model one that is not UTF-8."""
    model = onnx.ModelProto.FromString(data)
    d = onnx.NodeProto.DESCRIPTOR.fields[0]
    message, descriptor = _pick(_fields(model, (d.TYPE_STRING,)), rng)
    content = getattr(message, descriptor.name)
    whole = rng.choice(list(content) if descriptor.is_repeated else [content]).encode()
    if not whole or len(whole) > 127:
        return data, []
    framed = bytes([descriptor.number << 3 & 0x7F | 2, len(whole)]) + whole
    at = data.find(framed if descriptor.number < 16 else framed[1:])
    if at < 0:
        return data, []
    end = data.index(whole, at) + len(whole)
    return data[: end - 1] + b"\xff" + data[end:], [f"no UTF-8 in {_place(message, descriptor)}"]

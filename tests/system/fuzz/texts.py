"""Damage to everything that is no model: JSON, arrays, checkpoints, and plain bytes."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zipfile
from typing import Any

import numpy as np

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 3, 1.5, 2**31, 2**63, 10**40, 1e300, "", "x", "12", [], {}, [1, 2], {"a": 1}, [[[]]],
    "\ud800", "a\nb\x1b[31m", [2] * 3000,
)  # fmt: skip


def damage_text(rng: random.Random) -> list[str]:
    """Texts that names are not expected to be."""
    return ["", "a\0b", "x" * 3000, "\x1b[31mred\n", "نام", "a//b", "..", "-1", "onnx::MatMul_7", rng.choice("abc")]


def damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Cut, flip, repeat or insert bytes."""
    change = rng.randrange(6)
    if not data:
        return b"\xff", ["a byte where there was none"]
    at = rng.randrange(len(data))
    if change == 0:
        return data[:at], [f"truncated to {at} of {len(data)} bytes"]
    damaged = bytearray(data)
    if change <= 2:
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(data))
            damaged[at] ^= 1 << rng.randrange(8)
        return bytes(damaged), ["bits flipped"]
    if change == 3:
        damaged[at : at + 16] = bytes(len(damaged[at : at + 16]))
        return bytes(damaged), [f"zeros at {at}"]
    if change == 4:
        damaged[at:at] = rng.randbytes(rng.choice((1, 7, 100)))
        return bytes(damaged), [f"bytes inserted at {at}"]
    damaged[at:at] = damaged[at : at + rng.choice((10, 1000))]
    return bytes(damaged), [f"bytes repeated at {at}"]


def damage_json(data: bytes, rng: random.Random) -> bytes:
    """JSON with other values, keys or kinds; or none."""
    change = rng.randrange(12)
    if change == 0:
        return data[: rng.randrange(len(data) + 1)]
    if change == 1:
        whole = (
            b"",
            b"null",
            b"[]",
            b"3",
            b'"x"',
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"a":' * 5000,
            b"NaN",
            b"\0",
            b"{}",
        )
        return rng.choice(whole)
    if change == 2:
        return damage_bytes(data, rng)[0]
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return data + b"}"
    for _ in range(rng.choice((1, 1, 2))):
        told = _changed(told, rng)
    return json.dumps(told).encode()


def _changed(told: Any, rng: random.Random) -> Any:
    """A JSON value with one thing in it changed."""
    if isinstance(told, dict) and told and rng.random() < 0.9:
        key = rng.choice(list(told))
        change = rng.randrange(5)
        if change == 0:
            return {name: value for name, value in told.items() if name != key}
        if change == 1:
            return {
                **told,
                rng.choice(("", "x", "layers", "hidden", "dims", "constants", "promise", key + "2")): told[key],
            }
        return {**told, key: _changed(told[key], rng)}
    if isinstance(told, list) and told and rng.random() < 0.7:
        at = rng.randrange(len(told))
        return [*told[:at], _changed(told[at], rng), *told[at + 1 :]] if rng.random() < 0.7 else told[:at]
    return rng.choice(_VALUES)


def damage_arrays(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """An ``.npz`` file with other arrays, or none."""
    with np.load(io.BytesIO(data)) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    array = arrays[name]
    made = io.BytesIO()
    change = rng.randrange(10)
    if change == 0:
        np.save(made, array)
        return made.getvalue(), ["one array without a name"]
    if change == 1:
        return b"PK\x05\x06" + bytes(18), ["an empty archive"]
    if change == 2:
        del arrays[name]
    elif change == 3:
        arrays[rng.choice(("nobody", "../x", "a b"))] = arrays.pop(name)
    elif change == 4:
        arrays[name] = array.astype(rng.choice(("c8", "U3", "S2", "?", "i1", "u8", "f2", ">f4", "M8[s]")))
    elif change == 5:
        arrays[name] = rng.choice((array[:0], array[None], array.reshape(-1), np.float32(3), array[..., :1]))
    elif change == 6:
        arrays[name] = np.full(array.shape, rng.choice((1e9, -1, np.nan, np.inf))).astype("f4").astype(array.dtype)
    elif change == 7:
        return _forged(arrays, rng)
    else:
        return damage_bytes(data, rng)
    np.savez(made, **arrays)
    return made.getvalue(), [f"array {name!r} changed ({change})"]


def _forged(arrays: dict[str, Any], rng: random.Random) -> tuple[bytes, list[str]]:
    """An archive whose members are no arrays, or say that they are larger than they are."""
    shape, kind = rng.choice((((2**33,), "<f4"), ((-1,), "<f4"), ((3,), "|O"), ((2,), "<f9"), ((2**70,), "<f4")))
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in arrays:
            archive.writestr(f"{name}.npy", rng.choice((member, b"plain text", b"")))
    return made.getvalue(), [f"arrays that are none: {kind} {shape}"]


def damage_checkpoint(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """A safetensors file with another header, other types, or less of it."""
    length = struct.unpack("<Q", data[:8])[0]
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    keys = [key for key in header if key != "__metadata__"]
    key = rng.choice(keys)
    change = rng.randrange(7)
    if change == 0:
        return damage_bytes(data, rng)
    if change == 1:
        kind = rng.choice(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3"))
        header, body = _eight_bits(header, body, keys if rng.random() < 0.5 else [key], kind)
    elif change == 2:
        header[key]["dtype"] = rng.choice(("BF16", "I32", "U64", "BOOL", "C64", "F32", "X9", ""))
    elif change == 3:
        header[key]["shape"] = rng.choice(
            ([], [0], [-1], [2**40], header[key]["shape"][::-1], [1, *header[key]["shape"]])
        )
    elif change == 4:
        header[rng.choice(("", "x", "a\nb", key + ".weight"))] = header.pop(key)
    elif change == 5:
        del header[key]
    else:
        header = json.loads(json.dumps(_changed(header, rng)))
    text = json.dumps(header).encode()
    if rng.random() < 0.05:
        return struct.pack("<Q", 2**62) + text + body, ["a header without end"]
    return struct.pack("<Q", len(text)) + text + body, [f"{key!r} changed ({change})"]


def _eight_bits(header: dict[str, Any], body: bytes, chosen: list[str], kind: str) -> tuple[dict[str, Any], bytes]:
    """Let tensors be of eight-bit numbers at their shapes."""
    made, end = dict(header), 0
    pieces = []
    for key, told in header.items():
        if key == "__metadata__":
            continue
        begin, stop = told["data_offsets"]
        size = math.prod(told["shape"]) if key in chosen else stop - begin
        pieces.append(body[begin : begin + size])
        made[key] = {**told, "data_offsets": [end, end + size], **({"dtype": kind} if key in chosen else {})}
        end += size
    return made, b"".join(pieces)

"""The wire scanner against protobuf itself, and against broken bytes."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bot_onnx._onnxfile import skeleton_scan
from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx.errors import GraphError


def tensor(name: str, count: int, *, raw: bool = True, dtype: int = TensorProto.FLOAT) -> onnx.TensorProto:
    values = np.random.default_rng(count).standard_normal(count).astype(helper.tensor_dtype_to_np_dtype(dtype))
    return helper.make_tensor(name, dtype, [count], values.tobytes() if raw else values, raw=raw)


def constant(output: str, count: int, *, raw: bool = True) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [output], value=tensor("", count, raw=raw))


def model(sizes: list[int], *, raw: bool = True) -> onnx.ModelProto:
    """Build a model with tensors of the given sizes in every place that can hold one."""
    first, second, third, fourth, fifth = sizes
    branch = helper.make_graph([constant("b", second, raw=raw)], "branch", [], [], [tensor("c", third, raw=raw)])
    sparse = helper.make_sparse_tensor(tensor("v", fifth), tensor("i", fifth, dtype=TensorProto.INT64), [10**6])
    nodes = [
        constant("k", fourth, raw=raw),
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [tensor("w", first, raw=raw), tensor("u", second, raw=raw)])
    function = helper.make_function("d", "f", [], ["z"], [constant("z", third)], [helper.make_opsetid("", 17)])
    return helper.make_model(graph, functions=[function], producer_name="test")


def refilled(data: bytes, inline_bytes: int) -> tuple[onnx.ModelProto, int]:
    """Cut a serialised model, then put the values back from where the skeleton says they are."""
    skeleton = skeleton_scan.scan(data, "here", inline_bytes)
    proto = onnx.ModelProto.FromString(skeleton.data)
    back = 0
    for _, cut in all_tensors(proto):
        if cut.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in cut.external_data}
            assert entries.pop("location") == "here"
            offset, length = int(entries["offset"]), int(entries["length"])
            assert skeleton_scan.Cut(offset, length) in skeleton.cuts
            assert length > inline_bytes
            cut.raw_data = data[offset : offset + length]
            cut.ClearField("external_data")
            cut.ClearField("data_location")
            back += 1
    assert back == len(skeleton.cuts)
    return proto, back


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3000), min_size=5, max_size=5), st.sampled_from([0, 100, 4096, 16384]))
def test_cut_and_refill_gives_the_same_message(sizes: list[int], inline_bytes: int) -> None:
    original = model(sizes)
    proto, cuts = refilled(original.SerializeToString(), inline_bytes)
    assert proto == original
    first, second, third, fourth, fifth = (4 * size for size in sizes)
    placed = [first, second, *[second, third] * 2, third, fourth, fifth, 2 * fifth]
    assert cuts == sum(size > inline_bytes for size in placed)


def test_large_tensors_of_typed_fields_are_cut_too() -> None:
    data = model([5000, 20, 5000, 5000, 20], raw=False).SerializeToString()
    skeleton = skeleton_scan.scan(data, "here", 4096)
    assert len(skeleton.data) < 4000
    found = onnx.ModelProto.FromString(skeleton.data).graph.initializer[0]
    entries = {entry.key: entry.value for entry in found.external_data}
    values = np.frombuffer(data, "<f4", count=5000, offset=int(entries["offset"]))
    np.testing.assert_array_equal(values, np.random.default_rng(5000).standard_normal(5000).astype("f"))


def test_int32_data_is_left_alone() -> None:
    original = onnx.ModelProto()
    original.graph.initializer.add(name="w", data_type=TensorProto.INT32, dims=[9000], int32_data=range(9000))
    skeleton = skeleton_scan.scan(original.SerializeToString(), "here", 4096)
    assert not skeleton.cuts
    assert onnx.ModelProto.FromString(skeleton.data) == original


@pytest.mark.parametrize("kind", ["two chunks", "another type"])
def test_typed_values_that_are_not_laid_out_as_raw_ones_are_left_alone(kind: str) -> None:
    chunk = skeleton_scan.length_prefix(4, 20_000) + np.arange(5000, dtype="<f4").tobytes()
    dtype, packed = (TensorProto.FLOAT, chunk * 2) if kind == "two chunks" else (TensorProto.COMPLEX64, chunk)
    inner = TensorProto(name="w", data_type=dtype, dims=[1]).SerializeToString() + packed
    graph = skeleton_scan.length_prefix(5, len(inner)) + inner
    data = skeleton_scan.length_prefix(7, len(graph)) + graph
    skeleton = skeleton_scan.scan(data, "here")
    assert not skeleton.cuts
    assert skeleton.data == data


def test_no_weight_is_read(tmp_path: Path) -> None:
    nbytes = 1_900_000_000
    header = skeleton_scan.length_prefix(9, nbytes)
    inner = TensorProto(name="w", data_type=1, dims=[nbytes // 4]).SerializeToString() + header
    graph = skeleton_scan.length_prefix(5, len(inner) + nbytes) + inner
    head = b"\x08\x08" + skeleton_scan.length_prefix(7, len(graph) + nbytes) + graph
    path = tmp_path / "large.onnx"
    path.write_bytes(head)
    os.truncate(path, len(head) + nbytes)  # a hole: no disk space either
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = resident_bytes()
        skeleton = skeleton_scan.scan(mapped, "large.onnx")
        assert resident_bytes() - before < 20_000_000
    assert skeleton.cuts == (skeleton_scan.Cut(len(head), nbytes),)
    assert len(skeleton.data) < 200


def resident_bytes() -> int:
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("needs /proc")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


SMALL = model([60, 3, 50, 2, 40]).SerializeToString()


def scans_or_refuses(data: bytes) -> bool:
    """Whether the scanner accepts; it must agree with protobuf wherever protobuf refuses framing it has entered."""
    try:
        skeleton = skeleton_scan.scan(data, "here", 100)
    except GraphError as error:
        assert re.search(r"at byte \d+", str(error))
        return False
    try:
        onnx.ModelProto.FromString(skeleton.data)
    except DecodeError:
        with pytest.raises(DecodeError):
            onnx.ModelProto.FromString(data)
        return False
    return True


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(SMALL) - 1))
def test_truncated_anywhere(length: int) -> None:
    accepted = scans_or_refuses(SMALL[:length])
    assert accepted == parses(SMALL[:length])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for position, byte in changes:
        data[position] = byte
    if scans_or_refuses(bytes(data)):
        assert parses(bytes(data))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    scans_or_refuses(data)


def parses(data: bytes) -> bool:
    try:
        onnx.ModelProto.FromString(data)
    except DecodeError:
        return False
    return True


def nested(depth: int) -> bytes:
    """Graphs in attributes in nodes in graphs, ``depth`` times, around a large string."""
    data = skeleton_scan.length_prefix(10, 20_000) + b"x" * 20_000  # GraphProto.doc_string
    for _ in range(depth):
        for field in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            data = skeleton_scan.length_prefix(field, len(data)) + data
    return skeleton_scan.length_prefix(7, len(data)) + data


def test_recursion_bomb() -> None:
    assert scans_or_refuses(nested(30))
    with pytest.raises(GraphError, match="nest more than 100 deep"):
        skeleton_scan.scan(nested(1000), "here")


def hostile() -> Iterator[tuple[str, bytes, str]]:
    yield (
        "length past the end",
        skeleton_scan.length_prefix(7, 2**40) + b"abc",
        "at byte 0: field 7 should reach to byte",
    )
    yield (
        "length in a graph",
        skeleton_scan.length_prefix(7, 9) + skeleton_scan.length_prefix(5, 200) + bytes(6),
        "at byte 2: field 5",
    )
    yield "field 0", b"\x02\x01a", "field number 0"
    yield "group", b"\x3b", "wire type 3 of field 7"
    yield "endless number", b"\x08" + b"\xff" * 11, "longer than 10 bytes"
    yield "cut number", b"\x08\xff", "runs past the end"
    values = skeleton_scan.length_prefix(9, 200) + bytes(200)
    inner = skeleton_scan.length_prefix(5, len(values) * 2) + values * 2
    yield "values twice", skeleton_scan.length_prefix(7, len(inner)) + inner, "gives its values twice"


@pytest.mark.parametrize(("data", "message"), [pytest.param(d, m, id=i) for i, d, m in hostile()])
def test_hostile_framing_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        skeleton_scan.scan(data, "here", 4)


@given(st.integers(0, 2**63 - 1))
def test_varints_round_trip(value: int) -> None:
    encoded = skeleton_scan.varint(value)
    assert skeleton_scan.read_varint(encoded + b"\xff", 0, len(encoded) + 1) == (value, len(encoded))

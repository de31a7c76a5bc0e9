"""Files that are not models, or not whole, or not honest: each is refused in one line that says what to do."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx.errors import GraphError

ROWS, COLUMNS = 64, 100


def matmul(dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Build y = x @ w with 25,600 bytes of weights."""
    weights = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(helper.tensor_dtype_to_np_dtype(dtype))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        [value("x", dtype, ["b", ROWS])],
        [value("y", dtype, ["b", COLUMNS])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def externalised(folder: Path, **changes: str | None) -> Path:
    """Save the model with its weights in ``weights.bin``, with changed external_data entries."""
    model = matmul()
    weights = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(weights.raw_data)
    entries: dict[str, str | None] = {"location": "weights.bin", "offset": "0", "length": str(len(weights.raw_data))}
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (entries | changes).items():
        if value is not None:
            weights.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def refused(path: str | Path, match: str) -> None:
    with pytest.raises(GraphError, match=match) as caught:
        open_model(path).close()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    assert ": " in message or "; " in message  # what was refused, then the way out


def test_paths(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "there is no file")
    refused(tmp_path, "is a folder")
    refused("a\0b", "there is no file")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "gone.onnx")
    refused(tmp_path / "link.onnx", "a link to a file that is gone")
    (tmp_path / "empty.onnx").touch()
    refused(tmp_path / "empty.onnx", "is empty")
    (tmp_path / "below.onnx").mkdir()
    refused(tmp_path / "empty.onnx" / "x.onnx", "there is no file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"This is no model.\n" * 100, "text file"),
        (b'{"layers": 6}', "text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG"),
        (zipped, "PyTorch checkpoint"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"w":{}}', "safetensors"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (bytes(1000), "at byte 0: field number 0"),
        (np.random.default_rng(0).bytes(5000), r"at byte \d+"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
    ],
)
def test_not_a_model(tmp_path: Path, content: bytes | Callable[[Path], None], match: str) -> None:
    path = tmp_path / "model.onnx"
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    refused(path, match)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    data = matmul().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: max(2, int(share * len(data)))])
    refused(path, "at byte|no graph|not a valid model")


def test_damage_inside_a_short_message_is_placed(tmp_path: Path) -> None:
    data = matmul().SerializeToString()
    path = tmp_path / "model.onnx"
    position = data.index(b"product") - 1  # the length of the node's name
    path.write_bytes(data[:position] + b"\x70" + data[position + 1 :])
    refused(path, rf"broken ONNX file at byte {position - 1}: field 3 should reach to byte")


@pytest.mark.parametrize("old", [b"product", b"MatMul", b"\x01w", b"\x01y"])
def test_names_that_are_no_text(tmp_path: Path, old: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(matmul().SerializeToString().replace(old, old[:-1] + b"\xff"))
    refused(path, "not UTF-8 text")


def change_nodes(change: Callable[[onnx.GraphProto], object]) -> onnx.ModelProto:
    model = matmul()
    change(model.graph)
    return model


def cycle(graph: onnx.GraphProto) -> None:
    graph.node[0].input[0] = "back"
    graph.node.append(helper.make_node("Relu", ["y"], ["back"]))


def unknown(graph: onnx.GraphProto) -> None:
    graph.node[0].op_type = "Frobnicate"


def too_new(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("GroupNormalization", ["y", "w", "w"], ["z"], num_groups=2))


def dangling(graph: onnx.GraphProto) -> None:
    graph.node[0].input[0] = "nowhere"


def twice(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Relu", ["x"], ["y"]))


def sparse(graph: onnx.GraphProto) -> None:
    values = numpy_helper.from_array(np.ones(3, np.float32), "s")
    places = numpy_helper.from_array(np.arange(3), "places")
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [10]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (cycle, "topologically sorted"),
        (unknown, "Frobnicate"),
        (too_new, "GroupNormalization"),
        (dangling, "nowhere"),
        (twice, "SSA"),
        (sparse, "sparse initializer 's'"),
    ],
)
def test_graphs_that_the_checker_refuses(tmp_path: Path, change: Callable[..., None], match: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(change_nodes(change).SerializeToString())
    refused(path, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dims": [ROWS, COLUMNS + 1]}, "has 25600 bytes of values, but FLOAT of shape .* needs 25856"),
        ({"dims": [ROWS, -1]}, "negative size"),
        ({"dims": [2**62, 2**62]}, "needs"),
        ({"data_type": TensorProto.DOUBLE}, "DOUBLE of shape"),
        ({"data_type": 77}, "unknown data type 77"),
        ({"data_type": 0}, "unknown data type 0"),
    ],
)
@pytest.mark.parametrize("inline", [True, False])
def test_shape_and_length_disagree(tmp_path: Path, changes: dict[str, object], match: str, inline: bool) -> None:
    path = tmp_path / "model.onnx"
    if not inline:
        externalised(tmp_path)
    model = matmul() if inline else onnx.load(path, load_external_data=False)
    weights = model.graph.initializer[0]
    for key, value in changes.items():
        if isinstance(value, list):
            weights.dims[:] = value
        else:
            setattr(weights, key, value)
    path.write_bytes(model.SerializeToString())
    refused(path, match)


def test_small_tensors_are_measured_too(tmp_path: Path) -> None:
    model = matmul()
    model.graph.initializer.append(TensorProto(name="b", dims=[3], data_type=1, raw_data=b"12345678"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "m.onnx", "'b' .* has 8 bytes of values")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"location": "gone.bin"}, "'gone.bin', but there is no such file"),
        ({"location": "/etc/hostname"}, "outside the model's folder"),
        ({"location": "C:\\secret.bin"}, "outside the model's folder"),
        ({"location": "../secret.bin"}, "outside the model's folder"),
        ({"location": "sub/../../secret.bin"}, "outside the model's folder"),
        ({"location": "way-out.bin"}, "a link out of the model's folder"),
        ({"location": "way-out/secret.bin"}, "a link out of the model's folder"),
        ({"location": "."}, "no such file"),
        ({"location": ""}, "no file name"),
        ({"location": "a\0b"}, "no file name"),
        ({"location": None}, "no file name"),
        ({"offset": "1"}, "should take bytes 1 to 25601 of .* which has 25600"),
        ({"offset": "-4"}, "has the offset '-4'"),
        ({"offset": "9" * 400}, "has the offset '9999"),
        ({"offset": str(2**62)}, "should take bytes"),
        ({"length": "100"}, "has 100 bytes of values"),
        ({"length": "x"}, "has the length 'x'"),
    ],
)
def test_external_data(tmp_path: Path, changes: dict[str, str | None], match: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(ROWS * COLUMNS * 4))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "way-out.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "way-out").symlink_to(tmp_path)
    refused(externalised(folder, **changes), match)


def test_external_data_that_may_be_read(tmp_path: Path) -> None:
    expected = numpy_helper.to_array(matmul().graph.initializer[0])
    for changes in ({}, {"offset": None}, {"length": None}, {"offset": None, "length": None}, {"checksum": "x"}):
        with open_model(externalised(tmp_path, **changes)) as source:
            np.testing.assert_array_equal(source.tensor("w"), expected)
    (tmp_path / "weights.bin").rename(tmp_path / "real.bin")
    (tmp_path / "weights.bin").symlink_to("real.bin")
    with open_model(tmp_path / "model.onnx") as source:
        np.testing.assert_array_equal(source.tensor("w"), expected)


def test_values_both_inside_and_outside(tmp_path: Path) -> None:
    path = externalised(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].float_data.append(1)
    path.write_bytes(model.SerializeToString())
    refused(path, "both inside and outside")


def test_a_truncated_data_file(tmp_path: Path) -> None:
    path = externalised(tmp_path)
    os.truncate(tmp_path / "weights.bin", 25_000)
    refused(path, "truncated")


def test_bad_weights_are_refused_when_they_are_read(tmp_path: Path) -> None:
    path = externalised(tmp_path)
    with open(tmp_path / "weights.bin", "r+b") as file:
        file.seek(4 * 1234)
        file.write(np.array([np.nan, np.inf], "<f4").tobytes())
    with open_model(path) as source, pytest.raises(GraphError, match=r"'w' of .* has 2 NaN or infinite"):
        source.check()


def test_huge_promises_cost_nothing(tmp_path: Path) -> None:
    model = matmul()
    model.graph.initializer[0].dims[:] = [2**40, 2**20]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    start = time.perf_counter()
    refused(path, "needs")
    assert time.perf_counter() - start < 2


WHOLE = matmul().SerializeToString()
FRAMING = WHOLE.index(numpy_helper.to_array(matmul().graph.initializer[0]).tobytes())


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-120, FRAMING - 1), st.integers(0, 255)), min_size=1, max_size=3), st.data())
def test_damaged_framing(tmp_path: Path, changes: list[tuple[int, int]], data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for position, byte in changes:
        damaged[position] = byte
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    path = tmp_path / "model.onnx"
    path.write_bytes(damaged)
    try:
        with open_model(path) as source:
            source.model()
            source.check(allow_nonfinite=False)
            for name in source.tensors:
                source.tensor(name)
    except GraphError as error:
        assert "\n" not in str(error)

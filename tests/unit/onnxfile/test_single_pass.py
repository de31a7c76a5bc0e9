"""Digest and search in one pass give what each gives alone, whatever lies where in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile import finite
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.single_pass import read_once

WIDE = finite.CHUNK_BYTES // 4 + 300  #: floats of more than a chunk


def written(folder: Path, *, external: bool, bad: str | None = None, bad_at: int = 0, value: float = np.nan) -> Path:
    """Three weights of several types, summed; ``bad`` has a value that is no number."""
    arrays = {
        "small": np.ones(3, np.float32),
        "wide": np.linspace(-1, 1, WIDE, dtype=np.float32),
        "half": np.ones(700, np.float16),
        "ids": np.arange(900),
    }
    if bad is not None:
        arrays[bad][bad_at] = value
    nodes = [helper.make_node("Identity", [name], [f"{name}.out"], name) for name in arrays]
    outputs = [
        helper.make_tensor_value_info(f"{name}.out", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=1000)
    return path


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(("bad", "at"), [(None, 0), ("small", 2), ("wide", 0), ("wide", WIDE - 1), ("half", 650)])
def test_both_are_what_each_is_alone(external: bool, bad: str | None, at: int, tmp_path: Path) -> None:
    with open_model(written(tmp_path, external=external, bad=bad, bad_at=at)) as source:
        digest, found = read_once(source, search=True)
        assert digest == source.sha256()
        assert found == source.find_nonfinite()
        assert (None if found is None else (found.name, found.count)) == (None if bad is None else (bad, 1))
        assert read_once(source, search=False) == (digest, None)


def test_tensors_that_share_bytes_are_all_looked_at(tmp_path: Path) -> None:
    values = np.ones(600, np.float32)
    values[550] = np.inf
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    weights = []
    for name, offset, count in (("first", 0, 500), ("second", 1600, 200)):  # the second begins within the first
        tensor = TensorProto(name=name, data_type=1, dims=[count], data_location=TensorProto.EXTERNAL)
        for key, entry in (("location", "weights.bin"), ("offset", offset), ("length", 4 * count)):
            tensor.external_data.add(key=key, value=str(entry))
        weights.append(tensor)
    nodes = [helper.make_node("Identity", [tensor.name], [f"{tensor.name}.out"]) for tensor in weights]
    outputs = [helper.make_tensor_value_info(f"{t.name}.out", 1, list(t.dims)) for t in weights]
    graph = helper.make_graph(nodes, "g", [], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with open_model(tmp_path / "model.onnx") as source:
        digest, found = read_once(source, search=True)
        assert digest == source.sha256()
        assert found is not None and found.name == "second"


def test_every_byte_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_model(written(tmp_path, external=True)) as source:
        read: list[int] = []
        for file in source.hashed():
            fill = file._fill
            monkeypatch.setattr(
                file, "_fill", lambda offset, window, fill=fill: (read.append(window.size), fill(offset, window))
            )
        read_once(source, search=True)
        assert sum(read) == source.size_bytes

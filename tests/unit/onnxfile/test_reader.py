"""Reading: values, placement, laziness; refusals are in tests/system/files/test_hostile_files.py."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile.finite import CHUNK_BYTES
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.weight_files import MappedTensor
from bot_onnx.errors import GraphError

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.int8, np.bool_, ml_dtypes.float8_e4m3fn]


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {f"large_{np.dtype(t).name}": (100 * rng.standard_normal((150, 151))).astype(t) for t in DTYPES}
    found |= {f"small_{np.dtype(t).name}": (100 * rng.standard_normal(7)).astype(t) for t in DTYPES}
    found["int4"] = rng.integers(-8, 8, (300, 301)).astype(ml_dtypes.int4)
    found["empty"] = np.zeros((0, 4), np.float32)
    found["scalar"] = np.array(3.5, np.float32)
    return found


def build(tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    initializers = [ir.serde.serialize_tensor(ir.Tensor(array, name=name)) for name, array in tensors.items()]
    kept = ir.serde.serialize_tensor(ir.Tensor(np.arange(9000, dtype=np.float32), name="inner"))
    nodes = [
        helper.make_node("Constant", [], ["in_node"], value=kept),
        helper.make_node("Add", ["x", "in_node"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [9000])], [value("y", TensorProto.FLOAT, [9000])], initializers
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def saved(folder: Path, tensors: dict[str, np.ndarray], *, external: bool) -> Path:
    path = folder / "model.onnx"
    if external:
        onnx.save(build(tensors), path, save_as_external_data=True, location="model.data", size_threshold=0)
    else:
        onnx.save(build(tensors), path)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_values_of_every_type(tmp_path: Path, external: bool) -> None:
    expected = arrays()
    path = saved(tmp_path, expected, external=external)
    with open_model(path) as source:
        for name, array in expected.items():
            found = source.tensor(name)
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert not found.flags.writeable
            assert found.tobytes() == array.tobytes()
        np.testing.assert_array_equal(source.tensor("in_node"), np.arange(9000, dtype=np.float32))
        assert source.uses_external_data == external
        assert source.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
        assert source.files == tuple(tmp_path / name for name in ["model.onnx", "model.data"][: 1 + external])


@pytest.mark.parametrize("external", [False, True])
def test_the_representation_reads_lazily(tmp_path: Path, external: bool) -> None:
    expected = arrays()
    with open_model(saved(tmp_path, expected, external=external)) as source:
        model = source.model()
        for name, array in expected.items():
            tensor = model.graph.initializers[name].const_value
            assert tensor is not None
            assert tensor.numpy().tobytes() == array.tobytes()
            assert tensor.tobytes() == ir.Tensor(array).tobytes()
            # Small tensors must be at hand: runtimes are given the structure without any file.
            assert isinstance(tensor, MappedTensor) == (tensor.nbytes > 16384)
        constant = next(node for node in model.graph if node.op_type == "Constant").attributes["value"].as_tensor()
        assert isinstance(constant, MappedTensor)
        assert np.asarray(constant)[17] == 17
        large = model.graph.initializers["large_float32"].const_value
        assert isinstance(large, MappedTensor)
        assert not large.numpy().flags.owndata
        assert isinstance(np.asarray(large, dtype=np.float64)[0, 0], np.float64)
        with open(tmp_path / "copy", "wb") as file:
            large.tofile(file)
        assert (tmp_path / "copy").read_bytes() == expected["large_float32"].tobytes()


def test_arrays_outlive_their_source(tmp_path: Path) -> None:
    expected = arrays()
    source = open_model(saved(tmp_path, expected, external=False))
    found = source.tensor("large_float32")
    source.release()
    source.close()
    np.testing.assert_array_equal(found, expected["large_float32"])


def test_unknown_tensor(tmp_path: Path) -> None:
    with open_model(saved(tmp_path, {}, external=False)) as source, pytest.raises(GraphError, match="no tensor 'w'"):
        source.tensor("w")


def test_hash_is_that_of_the_files(tmp_path: Path) -> None:
    path = saved(tmp_path, arrays(), external=False)
    with open_model(path) as source:
        assert source.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    path = saved(tmp_path, arrays(), external=True)
    with open_model(path) as source:
        both = path.read_bytes() + (tmp_path / "model.data").read_bytes()
        assert source.sha256() == hashlib.sha256(both).hexdigest()


@pytest.mark.parametrize("external", [False, True])
def test_linked_files_of_a_download_cache(tmp_path: Path, external: bool) -> None:
    expected = arrays()
    blobs = tmp_path / "blobs"
    links = tmp_path / "snapshot"
    blobs.mkdir()
    links.mkdir()
    path = saved(blobs, expected, external=external)
    for name in os.listdir(blobs):
        os.rename(blobs / name, blobs / f"sha-{name}")
        os.link(blobs / f"sha-{name}", blobs / f"other-{name}")
        (links / name).symlink_to(blobs / f"sha-{name}")
    with open_model(links / path.name) as source:
        tensor = source.model().graph.initializers["large_float32"].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), expected["large_float32"])


@pytest.mark.parametrize("where", [0, 1, CHUNK_BYTES // 4, -1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_one_bad_value_is_found_anywhere(tmp_path: Path, dtype: type, value: float, where: int) -> None:
    limit = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    weights: np.ndarray = np.tile(np.array([0, 1, limit, -limit], np.float64), CHUNK_BYTES // 4 + 1).astype(dtype)
    path = saved(tmp_path, {"a": np.ones(3, np.float32), "w": weights}, external=False)
    with open_model(path) as source:
        assert source.find_nonfinite() is None
        source.check()
    weights[where] = value
    with open_model(saved(tmp_path, {"a": np.ones(3, np.float32), "w": weights}, external=False)) as source:
        found = source.find_nonfinite()
        assert found is not None
        assert (found.name, found.count) == ("w", 1)
        with pytest.raises(GraphError, match=r"'w' of .* has 1 NaN or infinite"):
            source.check()
        source.check(allow_nonfinite=True)


def test_masks_and_bounds_are_no_weights(tmp_path: Path) -> None:
    mask = np.where(np.tri(80, dtype=bool), 0, -np.inf).astype(np.float32)
    with open_model(saved(tmp_path, {"mask": mask, "bound": np.array(np.inf, np.float32)}, external=False)) as source:
        assert source.find_nonfinite() is None
    mask[0, 0] = 1
    with open_model(saved(tmp_path, {"mask": mask}, external=False)) as source:
        assert source.find_nonfinite() is not None
    with open_model(saved(tmp_path, {"nan": np.array(np.nan, np.float32)}, external=False)) as source:
        assert source.find_nonfinite() is not None


@pytest.mark.thorough
@pytest.mark.parametrize("external", [False, True])
def test_memory_does_not_grow_with_the_model(tmp_path: Path, external: bool) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    weights = {f"w{number}": np.ones((2500, 1000), np.float32) for number in range(20)}  # 200 MB
    path = saved(tmp_path, weights, external=external)
    code = f"""
        import re
        from bot_onnx._onnxfile.reader import open_model
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
        open_model({str(path)!r}).close()
        before = peak()
        with open_model({str(path)!r}) as source:
            model = source.model()
            source.check()
            source.sha256()
            for name in source.tensors:
                assert source.tensor(name).max() >= 1
                source.release()
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 40  # MB: the largest tensor has 10


def test_names_that_occur_twice_stay_apart(tmp_path: Path) -> None:
    def branch(number: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.full(5000, number, np.float32), "w")
        output = helper.make_tensor_value_info("o", TensorProto.FLOAT, [5000])
        return helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "b", [], [output], [weight])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch(1), else_branch=branch(2))
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [5000])
    graph = helper.make_graph([node], "g", [condition], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with Source(tmp_path / "m.onnx") as source:
        found = [float(source.tensor(name)[0]) for name in ("w", "w#2")]
        assert sorted(found) == [1, 2]
        inner = [value.const_value for graph in source.model().graphs() for value in graph.initializers.values()]
        assert [float(tensor.numpy()[0]) for tensor in inner if tensor is not None] == found

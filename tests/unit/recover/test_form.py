"""Graph and weights apart: no message holds all weights, whatever the network's size and types."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.recover_memory import network as table_network
from benchmarks.recover_memory import pair, taught
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._recover import form as form_module
from bot_onnx._recover.converted import Converted
from bot_onnx._recover.form import Form
from bot_onnx._recover.jobs import Settings, recover
from bot_onnx._recover.network import Frozen, read_network
from bot_onnx._recover.student import make_student
from bot_onnx._recover.trainable import find_trainable
from bot_onnx.errors import RecoverError
from tests.forms import stored_as
from tests.unit.recover.halves import autocast_network, save
from tests.unit.recover.samples import folder

IDS = {"ids": np.array([[1, 2, 3, 4], [0, 0, 39, 5]])}
_GIB = 1 << 30


@pytest.fixture
def no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message may hold the weights of anything."""
    monkeypatch.setattr(form_module, "_LARGEST", 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_large_weight_is_not_in_the_graph_and_reads_as_it_lies(tmp_path: Path, dtype: str) -> None:
    path = table_network(tmp_path / "m.onnx", 40, 64, dtype)
    with open_model(path) as source:
        network = read_network(source)
        assert "table" in network.tensors
        assert len(network.proto.SerializeToString()) < 40 * 64 * 2
        wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        forms = {"as it is": network.form(), "wide": network.wide()}
        for name, form in forms.items():
            kind = wanted["table"].dtype if name == "as it is" else np.dtype(np.float32)
            for tensor in form.graph.graph.initializer:
                values = form.values(tensor)
                assert values.dtype == kind
                assert np.array_equal(values, wanted[tensor.name].astype(kind))
            held = {tensor.name: numpy_helper.to_array(tensor) for tensor in form.whole().graph.initializer}
            assert {name: array.dtype for name, array in held.items()} == dict.fromkeys(wanted, kind)
            form.write(tmp_path / f"{name}.onnx")
            onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)


def test_onnxruntime_gives_the_same_bits_and_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room = table_network(tmp_path / "m.onnx", 40, 64), tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    whole = Form(onnx.load(path))
    with open_model(path) as source:
        apart = Frozen(read_network(source).form(), ["y"], threads=1)
        assert list(room.iterdir()) == []
        broken = read_network(source).form()
        broken.graph.graph.node[0].op_type = "NoSuchOp"
        with pytest.raises(Exception, match="NoSuchOp"):
            Frozen(broken, ["y"], threads=1)
    assert list(room.iterdir()) == []
    assert apart.run(IDS)["y"].tobytes() == Frozen(whole, ["y"], threads=1).run(IDS)["y"].tobytes()


@pytest.mark.usefixtures("no_message")
@pytest.mark.parametrize("kind", ["float32", "stored in float16", "stored in bfloat16", "computed in float16"])
def test_no_message_holds_the_weights_of_a_recovery(tmp_path: Path, kind: str) -> None:
    """So that student, teacher and the student's float32 form may be of any size."""
    here, student = folder(), tmp_path / "small.onnx"
    teacher, data = here / "teacher.onnx", here / "digits.npz"
    if kind == "computed in float16":
        save(autocast_network(32, 2, seed=1), student)
        teacher, data = save(autocast_network(64, 4), tmp_path / "teacher.onnx"), tmp_path / "x.npz"
        np.savez(data, x=np.random.default_rng(0).normal(size=(60, 3, 8)).astype(np.float32))
    elif kind == "float32":
        shutil.copy(here / "small.onnx", student)
    else:
        stored_as(here / "small.onnx", student, how=kind.split()[-1])
    settings = Settings(steps=3, batch=16, threads=1)
    made = recover(student, teacher, data, tmp_path / "out.onnx", settings=settings, teacher_cache_bytes=0)
    assert made.tensors > 0
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in (student, tmp_path / "out.onnx")}
    assert len(digests) == 2


@pytest.mark.usefixtures("no_message")
def test_what_only_the_converter_carries_is_refused_by_name_where_it_is_too_large(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 24, 5), "r": (1, 24, 6)}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6)],
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", "batch", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["steps", 1, "batch", 6])],
        [numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with open_model(save(model, tmp_path / "lstm.onnx")) as source:
        network = read_network(source)
        trainable = find_trainable(network)
        with pytest.raises(RecoverError, match=r"lstm\.onnx has .*LSTM.*less than 2 GiB.*1,056 bytes.*bot-onnx export"):
            make_student(network, trainable, network.outputs)
        with pytest.raises(RecoverError, match="onnx2pytorch carries"):
            Converted(network, trainable, network.outputs)


def test_a_parameter_is_memory_of_its_own(tmp_path: Path) -> None:
    """A step changes neither the file nor a second student."""
    path = table_network(tmp_path / "m.onnx", 40, 64)
    with open_model(path) as source:
        network = read_network(source)
        first, second = (make_student(network, find_trainable(network), ["y"]) for _ in range(2))
        before = second.look(IDS)["y"].clone()
        for weight in first.parameters.values():
            weight.data.zero_()
        assert (second.look(IDS)["y"] == before).all()
        source.check_unchanged()


@pytest.mark.thorough
def test_memory_holds_parameters_gradients_and_moments(tmp_path: Path) -> None:
    """Four times the weights; a step of AdamW makes two of a weight's size besides; half a GB are the libraries."""
    rows, width = 60_000, 1024
    run = taught(*pair(tmp_path, rows, width), tmp_path / "out.onnx")
    assert run.peak_bytes < 7e8 + 6.3 * rows * width * 4


@pytest.mark.slow
def test_a_pair_beyond_what_a_message_holds_is_trained(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    rows, width = 600_000, 1024
    size = rows * width * 4
    if psutil.virtual_memory().available < 7 * size or shutil.disk_usage(tmp_path).free < 10 * size:
        pytest.skip("takes 17 GB of memory and 24 GB of disk")
    student, teacher, data = pair(tmp_path, rows, width)
    run = taught(student, teacher, data, tmp_path / "out.onnx")
    assert run.peak_bytes < 7e8 + 6.3 * size
    assert sum(path.stat().st_size for path in tmp_path.glob("out.onnx*")) > 2 * _GIB
    with open_model(student) as before, open_model(tmp_path / "out.onnx") as after:
        changed = (before.tensor("up") != after.tensor("up")).mean()
    assert changed > 0.5

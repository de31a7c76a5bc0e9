"""Students and teachers in half precision: trained in float32, written in the types that they had."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._recover.first_look import check_student
from bot_onnx._recover.jobs import Recovery, Settings, recover
from bot_onnx._recover.network import Frozen, read_network
from bot_onnx._recover.trainable import find_trainable, initial
from bot_onnx._recover.writing import write_trained
from bot_onnx.errors import RecoverError
from tests.forms import stored_as
from tests.unit.recover.halves import autocast_network, save
from tests.unit.recover.samples import folder

pytestmark = pytest.mark.exporter
HALF, FULL = TensorProto.FLOAT16, TensorProto.FLOAT
SETTINGS = Settings(steps=60, batch=16, rate=3e-3, threads=1)


def samples() -> list[dict[str, NDArray[np.float64]]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(3, 8))} for _ in range(200)]


def taught(tmp_path: Path, student: int, teacher: int, settings: Settings = SETTINGS) -> Recovery:
    """Of autocast's networks, by the types of their inputs and outputs."""
    path = save(autocast_network(8, 2, student, seed=1), tmp_path / "small.onnx")
    source = save(autocast_network(16, 4, teacher), tmp_path / "teacher.onnx")
    return recover(path, source, samples, tmp_path / "out.onnx", settings=settings, teacher_cache_bytes=0)


def types(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("student", "teacher"), [(FULL, FULL), (HALF, FULL), (HALF, HALF)])
def test_a_network_of_autocast_learns_and_keeps_its_types(tmp_path: Path, student: int, teacher: int) -> None:
    made = taught(tmp_path, student, teacher)
    assert made.weight_types == ("FLOAT", "FLOAT16")
    assert any("trained as float32, and are written as float16 again" in note for note in made.notes)
    assert made.loss[1] < 0.7 * made.loss[0]
    assert made.before[0].error is not None and made.after[0].error is not None
    assert made.after[0].error < 0.7 * made.before[0].error
    before, after = onnx.load(tmp_path / "small.onnx"), onnx.load(tmp_path / "out.onnx")
    assert types(tmp_path / "out.onnx") == types(tmp_path / "small.onnx")
    told = [[n.op_type for n in model.graph.node if n.op_type != "Identity"] for model in (before, after)]
    assert told[0] == told[1]
    assert [port.type.tensor_type.elem_type for port in (*after.graph.input, *after.graph.output)] == [student] * 2
    old, new = ({t.name: numpy_helper.to_array(t) for t in model.graph.initializer} for model in (before, after))
    assert all((old[name] != new[name]).any() for name in old)


def test_the_loss_is_that_of_the_float32_form(tmp_path: Path) -> None:
    """Weights, moments and products are float32: a student that is stored so from the start learns the same."""
    short = Settings(steps=4, batch=16, threads=1, hidden=0.0)
    half = taught(tmp_path, FULL, FULL, short)
    with open_model(tmp_path / "small.onnx") as source:
        wide = read_network(source).wide().whole()
    path = save(wide, tmp_path / "wide.onnx")
    full = recover(path, tmp_path / "teacher.onnx", samples, tmp_path / "f.onnx", settings=short, teacher_cache_bytes=0)
    assert half.loss == pytest.approx(full.loss, rel=1e-5)
    own, theirs = (onnx.load(tmp_path / name).graph.initializer for name in ("out.onnx", "f.onnx"))
    wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in theirs}
    for tensor in own:
        array = numpy_helper.to_array(tensor)
        assert np.array_equal(array, wanted[tensor.name].astype(array.dtype)), tensor.name


@pytest.mark.parametrize(("how", "kind"), [("float16", "FLOAT16"), ("bfloat16", "BFLOAT16")])
def test_weights_that_are_only_stored_in_half_precision_are_stored_so_again(
    tmp_path: Path, how: str, kind: str
) -> None:
    here, path, out = folder(), tmp_path / "small.onnx", tmp_path / "out.onnx"
    stored_as(here / "small.onnx", path, how=how)
    settings = Settings(steps=3, batch=16, threads=1)
    made = recover(path, here / "teacher.onnx", here / "digits.npz", out, settings=settings, teacher_cache_bytes=0)
    assert kind in made.weight_types
    before, after = Counter(types(path).values()), Counter(types(out).values())
    assert after[TensorProto.DataType.Value(kind)] == before[TensorProto.DataType.Value(kind)] > 0
    assert out.stat().st_size < 1.2 * path.stat().st_size


def test_weights_beyond_the_type_are_refused_by_name(tmp_path: Path) -> None:
    path = save(autocast_network(8, 2), tmp_path / "small.onnx")
    with open_model(path) as source:
        network = read_network(source)
        trainable = find_trainable(network)
        weights = {name: initial(tensor) for name, tensor in trainable.values.items()}
        weights |= {"up1": np.full((8, 16), 70000.0, np.float32)}
        with pytest.raises(RecoverError, match=r"'up1' has come to 70000 in training, beyond 65,504, .* of float16"):
            write_trained(network, trainable, weights, tmp_path / "out.onnx", told={})
    assert not (tmp_path / "out.onnx").exists()


def test_a_float32_form_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    import torch

    path = save(autocast_network(8, 2), tmp_path / "small.onnx")
    other = save(autocast_network(8, 2, seed=3), tmp_path / "other.onnx")
    with open_model(path) as source:
        network = read_network(source)
    feeds = {"x": np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)}
    good, bad = (Frozen(str(each), ["y"], threads=1) for each in (path, other))
    ours = {"y": torch.from_numpy(good.of(network.wide()).run(feeds)["y"])}
    check_student(ours, feeds, good, network, frozenset())
    with pytest.raises(RecoverError, match=r"something else in half precision than in float32.*'y' differs by"):
        check_student(ours, feeds, bad, network, frozenset())
    with pytest.raises(RecoverError, match="something else in PyTorch than in onnxruntime: 'y' differs by"):
        check_student({"y": ours["y"] * 1.01}, feeds, good, network, frozenset())

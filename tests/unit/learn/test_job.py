"""A resize whose operators are trained first: what comes out, what the plan says, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx import ResizeRequest, Result
from bot_onnx._learn.asked import record
from bot_onnx._recover import form
from bot_onnx._request import Learning
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out
from bot_onnx.errors import PlanError, RecoverError, ResampleError
from tests.unit.recover.samples import SMALL, folder

pytestmark = pytest.mark.exporter


def learned(out: Path, steps: int, spec: dict[str, int] | None = None, **settings: Any) -> Result:
    request = ResizeRequest(
        SMALL if spec is None else spec, learn={"steps": steps, "data": folder() / "digits.npz", **settings}
    )
    return bot_onnx.open(folder() / "teacher.onnx").resize(request, out)


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def correct(path: Path) -> float:
    test = held_out()
    return accuracy(session(str(path)).run(None, test.feeds())[0], test.labels)


@pytest.mark.parametrize(
    "spec", [SMALL, pytest.param({"layers": 8, "hidden": 128}, marks=pytest.mark.slow)], ids=["shrunk", "grown"]
)
def test_no_steps_are_the_methods_own_result(spec: dict[str, int], tmp_path: Path) -> None:
    plain, out = tmp_path / "plain.onnx", tmp_path / "out.onnx"
    bot_onnx.resize(folder() / "teacher.onnx", spec, plain, against=False)
    result = learned(out, 0, spec)
    wanted, found = weights(plain), weights(out)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        scale = max(1.0, float(np.abs(array).max(initial=0)))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-6 * scale, err_msg=name)
    assert result.learned is not None and (result.learned.steps, result.learned.loss) == (0, None)


def test_training_brings_the_student_nearer(tmp_path: Path) -> None:
    """And says so: in the report, the plan and the file, which promises nothing of its outputs."""
    result = learned(tmp_path / "out.onnx", 60)
    told = result.learned
    assert told is not None and told.loss is not None and told.loss[1] < 0.6 * told.loss[0]
    assert correct(folder() / "small.onnx") < 0.5 < 0.65 < correct(tmp_path / "out.onnx")
    floats = [
        array for array in weights(tmp_path / "out.onnx").values() if array.dtype == np.float32 and array.size > 1
    ]
    assert told.parameters * 8 < told.weights == sum(array.size for array in floats)
    plan = result.plan
    assert plan.promise.kept is None and plan.promise.why == "the operators are learned"
    assert plan.asked.learned == record(Learning(60, folder() / "digits.npz"))
    assert told.told() in plan.notes and any("60 steps of 32 samples" in one for one in plan.computed)
    entry = {entry.key: entry.value for entry in onnx.load(tmp_path / "out.onnx").metadata_props}["bot_onnx"]
    assert json.loads(entry)["learned"] == plan.asked.learned
    assert json.loads(entry)["promise"]["kept"] is None
    with pytest.raises(PlanError, match="resize with --learn"):
        bot_onnx.replay(folder() / "teacher.onnx", plan, tmp_path / "again.onnx")


@pytest.mark.slow
def test_no_message_holds_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that source and start may be larger than a message."""
    monkeypatch.setattr(form, "_LARGEST", 0)
    assert learned(tmp_path / "out.onnx", 2).learned is not None


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        learned(tmp_path / name / "out.onnx", 4, mix=True)
    assert (tmp_path / "a" / "out.onnx").read_bytes() == (tmp_path / "b" / "out.onnx").read_bytes()


def test_what_is_asked_is_told_apart_by_what_the_data_hold(tmp_path: Path) -> None:
    data = tmp_path / "photos"
    data.mkdir()
    (data / "a.png").write_bytes(b"a")
    before = record(Learning(5, data))
    (data / "a.png").write_bytes(b"b")
    assert record(Learning(5, data)) != before
    (data / "a.png").rename(data / "b.png")
    assert len({record(Learning(5, data))["data_sha256"], before["data_sha256"]}) == 2
    with pytest.raises(RecoverError, match="no data at"):
        record(Learning(5, tmp_path / "nowhere"))


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    source = bot_onnx.open(folder() / "teacher.onnx")
    learn = {"steps": 2, "data": folder() / "digits.npz"}
    with pytest.raises(ResampleError, match="method 'scratch' makes no tensor"):
        source.resize(ResizeRequest(SMALL, method="scratch", learn=learn), out)
    with pytest.raises(RecoverError, match="--requantize is for quantised sources"):
        source.plan(ResizeRequest(SMALL, requantize=True, learn=learn))
    assert not out.exists()

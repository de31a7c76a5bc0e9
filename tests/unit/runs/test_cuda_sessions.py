"""Sessions on a CUDA device, where onnxruntime says that it has one: what it is asked for, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._report.json_report import verify_json
from bot_onnx._resample.devices import namespace
from bot_onnx._runs import runtime
from bot_onnx._verify.model import verify_model
from bot_onnx._verify.runner import Runner
from bot_onnx.errors import ResampleError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.full((2, 2), 2.0, np.float32), "w")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


class Fake:
    """Onnxruntime as it is, with a device whose sessions fail when opened, when run, or never."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.asked: list[list[Any]] = []
        self.orders: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU]

    def InferenceSession(self, model: Any, options: Any, providers: list[Any], enable_fallback: int) -> Any:
        self.asked.append(providers)
        self.orders.append(options.execution_order)
        on_device = providers[0] != CPU
        if on_device and self.fails == "open":
            raise RuntimeError("libcudnn.so.9: cannot open shared object file")
        session = onnxruntime.InferenceSession(model, options, providers=[CPU], enable_fallback=0)
        return Broken(session) if on_device and self.fails == "run" else session


class Broken:
    def __init__(self, session: Any) -> None:
        self.get_outputs = session.get_outputs

    def run(self, *_: Any) -> Any:
        raise RuntimeError("out of memory")


@pytest.mark.parametrize(("fails", "opened"), [("never", [CUDA]), ("open", [CUDA, CPU]), ("run", [CUDA, CPU])])
@pytest.mark.parametrize("mapped", [False, True])
def test_the_cpu_has_the_last_word(
    doubling: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: str,
    opened: list[str],
    mapped: bool,
) -> None:
    fake = Fake(fails)
    monkeypatch.setattr(runtime, "onnxruntime", lambda: fake)
    with open_model(doubling) as source:
        runner = Runner(source, str(doubling), mapped=mapped, cuda=True)
        found = runner.run({"x": np.ones((3, 2), np.float32)})
        runner.close()
    np.testing.assert_array_equal(found["y"], np.full((3, 2), 4.0))
    told = {"never": [], "open": ["libcudnn.so.9"], "run": ["out of memory"]}[fails]
    assert len(caplog.messages) == len(told)
    assert all(
        "runs on the CPU, not on CUDA" in text and why in text for text, why in zip(caplog.messages, told, strict=True)
    )
    # By default all float16 weights are widened before the first layer runs.
    assert {onnxruntime.ExecutionOrder.PRIORITY_BASED} == set(fake.orders)
    assert [p[0] if p[0] == CPU else p[0][0] for p in fake.asked] == opened
    assert fake.asked[0] == [(CUDA, {"use_tf32": "0"}), CPU]


def test_one_of_several_devices_is_asked_for_by_its_number(doubling: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake("open")
    monkeypatch.setattr(runtime, "onnxruntime", lambda: fake)
    runtime.session(str(doubling), cuda=True, number=1)
    assert fake.asked[0] == [(CUDA, {"use_tf32": "0", "device_id": "1"}), CPU]


def test_no_device_is_asked_for_unless_it_was(doubling: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake("open")
    monkeypatch.setattr(runtime, "onnxruntime", lambda: fake)
    assert verify_model(doubling).passed
    assert {CPU} == {providers[0] for providers in fake.asked}


def test_what_is_wrong_with_a_model_is_still_said(doubling: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "onnxruntime", lambda: Fake("never"))
    broken = onnx.load(doubling)
    broken.graph.node[0].op_type = "NoSuchOp"
    with pytest.raises(Exception, match="NoSuchOp"):
        runtime.session(broken.SerializeToString(), cuda=True)


def test_a_whole_verification_asks_for_the_device(doubling: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake("never")
    monkeypatch.setattr(runtime, "onnxruntime", lambda: fake)
    assert verify_model(doubling, against=doubling, cuda=True).passed
    assert len([p for p in fake.asked if p[0] != CPU]) >= 2


class OnDevice:
    """A session that says that it is on a device."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]


class Taking(Fake):
    """A device that takes some of the models: the first ones."""

    def __init__(self, models: int) -> None:
        super().__init__("never")
        self.left = models

    def InferenceSession(self, model: Any, options: Any, providers: list[Any], enable_fallback: int) -> Any:
        self.fails = "never" if self.left > 0 else "open"
        session = super().InferenceSession(model, options, providers, enable_fallback)
        if providers[0] == CPU:
            return session
        self.left -= 1
        return OnDevice(session)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_verification_says_what_fell_back_to_the_cpu(
    doubling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    source = tmp_path / "source.onnx"
    source.write_bytes(doubling.read_bytes())
    fake = Taking(taken)
    monkeypatch.setattr(runtime, "onnxruntime", lambda: fake)
    report = verify_model(doubling, against=source, cuda=True)
    assert report.passed
    assert report.fell_back == (str(doubling), str(source))[taken:]
    assert json.loads(json.dumps(verify_json(report)))["fell_back"] == list(report.fell_back)
    ran = next(check.detail for check in report.checks if check.name == "run")
    assert ran.endswith(", on the CPU: CUDA did not take it") == (taken == 0)
    asked = len(fake.asked)
    assert verify_model(doubling, against=source).fell_back == ()
    assert {CPU} == {providers[0] for providers in fake.asked[asked:]}


@pytest.fixture
def cuda() -> Iterator[Any]:
    try:
        yield namespace("cuda")
    except ResampleError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
def test_on_a_device(cuda: Any, doubling: Path) -> None:
    assert runtime.session(str(doubling), cuda=True).get_providers()[0] == CUDA

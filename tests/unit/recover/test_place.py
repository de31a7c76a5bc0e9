"""Where a training computes and in what precision: what is asked for, what there is, and what comes of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bot_onnx._recover.jobs import Settings
from bot_onnx._recover.place import Place, find_place, on_cpu, widened
from bot_onnx._recover.ranks import Ranks
from bot_onnx._report.recover_report import recover_json
from bot_onnx.errors import RecoverError
from tests.unit.recover.test_training import SHORT, Killed, killing_at, rows, run, weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.exporter


def pretend(monkeypatch: pytest.MonkeyPatch, devices: int, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)


def test_what_is_chosen_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0)
    assert find_place(Settings()) == Place("cpu", "fp32", "cpu")
    assert find_place(Settings(precision="bf16")) == Place("cpu", "bf16", "cpu")
    pretend(monkeypatch, 2)
    assert find_place(Settings()) == Place("cuda", "bf16", "cuda:0")
    assert find_place(Settings(device="cpu")) == Place("cpu", "fp32", "cpu")
    assert find_place(Settings(device="cuda", precision="fp32")) == Place("cuda", "fp32", "cuda:0")
    pretend(monkeypatch, 2, bf16=False)
    assert find_place(Settings()) == Place("cuda", "fp16", "cuda:0")


def test_every_process_of_a_machine_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2)
    assert find_place(Settings(), Ranks(3, 4, 1, 2)) == Place("cuda", "bf16", "cuda:1", 1)
    assert find_place(Settings(device="cpu"), Ranks(3, 4, 3, 4)) == Place()
    with pytest.raises(RecoverError, match=r"process 2 has no device of its own: PyTorch finds 2 here; .*--device cpu"):
        find_place(Settings(), Ranks(2, 3, 2, 3))


def test_half_an_environment_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody would answer."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        RecoverError, match=r"speaks of several processes \(WORLD_SIZE=2\), and RANK, .* torchrun, or un"
    ):
        run(tmp_path / "out.onnx", SHORT)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run(tmp_path / "out.onnx", replace(SHORT, steps=1)).processes == 1


def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, 0)
    with pytest.raises(
        RecoverError, match=rf"'cuda' cannot be used: PyTorch {re.escape(torch.__version__)}.*--device cpu"
    ):
        run(tmp_path / "out.onnx", replace(SHORT, device="cuda"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecoverError, match="unknown precision 'fp8'; choose one of auto, fp32, bf16, fp16"):
        find_place(Settings(precision="fp8"))  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_bits_train_weights_of_float32(precision: Any, tmp_path: Path) -> None:
    """The first losses are those of float32 to the rounding of bfloat16, and a killed run goes on to the same bytes."""
    for name, asked in (("whole", precision), ("plain", "fp32")):
        made = run(tmp_path / f"{name}.onnx", replace(SHORT, precision=asked), log=tmp_path / f"{name}.csv")
        told = recover_json(made)
        assert (told["precision"], told["device"].split(",")[0], told["teacher_device"]) == (asked, "the CPU", "cpu")
        entry = {entry.key: entry.value for entry in onnx.load(made.output).metadata_props}["bot_onnx"]
        assert json.loads(entry)["recovered"]["precision"] == asked
    half, plain = ([float(row["loss"]) for row in rows(tmp_path / f"{name}.csv")] for name in ("whole", "plain"))
    assert half == pytest.approx(plain, rel=0.05) and half != plain
    assert half[-1] < 0.9 * half[0]
    with pytest.raises(Killed):
        run(tmp_path / "cut.onnx", replace(SHORT, precision=precision), save_every=0.0, progress=killing_at(4))
    with pytest.raises(RecoverError, match=rf"precision {precision}, not fp32"):
        run(tmp_path / "cut.onnx", replace(SHORT, device="cpu"))
    assert run(tmp_path / "cut.onnx", replace(SHORT, precision=precision, device="cpu")).resumed == 3
    assert weights(tmp_path / "cut.onnx") == weights(tmp_path / "whole.onnx")


def test_a_state_is_kept_in_memory_whatever_it_was_on() -> None:
    state = {"a": [torch.ones(2)], "b": {"c": (torch.zeros(1), 3)}, "d": None}
    assert on_cpu(state)["a"][0].device.type == "cpu" and on_cpu(state)["b"]["c"][1] == 3
    values = {"half": torch.ones(2, dtype=torch.bfloat16), "ids": torch.ones(2, dtype=torch.int64)}
    assert [value.dtype for value in widened(values).values()] == [torch.float32, torch.int64]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_trains_what_the_cpu_trains(tmp_path: Path) -> None:
    """To rounding; and what it saved is gone on with on the CPU."""
    asked = replace(SHORT, precision="fp32")
    for device in ("cpu", "cuda"):
        made = run(tmp_path / f"{device}.onnx", replace(asked, device=device), log=tmp_path / f"{device}.csv")
        assert device in made.device.lower() + made.teacher_device
    losses = [[float(row["loss"]) for row in rows(tmp_path / f"{name}.csv")] for name in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    with pytest.raises(Killed):
        run(tmp_path / "cut.onnx", replace(asked, device="cuda"), save_every=0.0, progress=killing_at(4))
    assert run(tmp_path / "cut.onnx", replace(asked, device="cpu")).resumed == 3
    half = run(tmp_path / "half.onnx", replace(SHORT, steps=60, device="cuda"))
    assert half.precision in ("bf16", "fp16") and half.loss[1] < 0.7 * half.loss[0]
    assert all(
        np.isfinite(value).all() for value in map(onnx.numpy_helper.to_array, onnx.load(half.output).graph.initializer)
    )

"""``recover`` in several processes, as ``torchrun`` starts them: one training, one output, and one end for all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bot_onnx._recover.jobs import Settings
from tests.unit.recover.samples import folder
from tests.unit.recover.test_training import Killed, killing_at, rows, run

pytestmark = [
    pytest.mark.exporter,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc"),
]
#: 17 samples a batch: one process has 9 of them, the other 8.
COMMON = Settings(steps=6, batch=17, accumulate=2, threads=1, validate_every=3)


def launch(out: Path, *more: str, cache: Path | None = None) -> subprocess.Popen[str]:
    here = folder()
    given = [here / "small.onnx", "--teacher", here / "teacher.onnx", "--data", here / "digits.npz", "-o", out, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--",
         "bot_onnx", "recover", *map(str, given), "--threads", "1", "--device", "cpu"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "", "BOT_ONNX_TEACHER_CACHE": str(cache or "")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def asked(settings: Settings) -> list[str]:
    given = {"steps": settings.steps, "batch": settings.batch, "accumulate": settings.accumulate,
             "validate-every": settings.validate_every}  # fmt: skip
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]


def wait_for_rows(log: Path, count: int) -> None:
    end = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > count):
        assert time.monotonic() < end
        time.sleep(0.05)


def weights(path: Path) -> dict[str, np.ndarray]:
    tensors = onnx.load(path).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type == 1}


def assert_same_training(one: Path, other: Path) -> None:
    """What training has changed is the same to 1e-4 of the change, ten times what was seen.

    But for the biases of attention's keys: a softmax does not see them, so that their gradient is nothing but rounding,
    of which AdamW makes steps as large as any other. They are off by no more than the steps that there were.
    """
    first, second, before = weights(one), weights(other), weights(folder() / "small.onnx")
    for name, array in first.items():
        moved, apart = np.linalg.norm(array - before[name]), np.linalg.norm(array - second[name])
        if name.endswith("key.bias"):
            assert np.abs(array - second[name]).max() <= 2 * COMMON.rate * COMMON.steps
        else:
            assert apart <= 1e-4 * moved, name
    assert sum(bool((first[name] != before[name]).any()) for name in first) > 40


def test_two_processes_train_what_one_does_and_write_it_once(tmp_path: Path) -> None:
    """From the start, and on from where one process was killed."""
    one = run(tmp_path / "one.onnx", COMMON, log=tmp_path / "one.csv")
    with pytest.raises(Killed):
        run(tmp_path / "on.onnx", COMMON, save_every=0.0, progress=killing_at(4))
    for name in ("two", "on"):
        at, resumed = tmp_path / f"{name}.onnx", 3 if name == "on" else 0
        process = launch(at, *asked(COMMON), "--log", str(tmp_path / f"{name}.csv"), "--json", cache=tmp_path / "cache")
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        told = json.loads(stdout)  # one value: nobody else printed
        assert (told["processes"], told["resumed"]) == (2, resumed)
        assert_same_training(tmp_path / "one.onnx", at)
        table = rows(tmp_path / f"{name}.csv")
        assert [row["step"] for row in table] == [str(step) for step in range(resumed + 1, 7)]
        for column in ("loss", "validation_loss"):
            found = [[float(row[column]) for row in part if row[column]]
                     for part in (table, rows(tmp_path / "one.csv")[resumed:])]  # fmt: skip
            assert found[0] == pytest.approx(found[1], rel=1e-5)
        assert told["after"][0]["divergence"] == pytest.approx(one.after[0].divergence, rel=1e-3)
        entry = {one.key: one.value for one in onnx.load(at).metadata_props}["bot_onnx"]
        assert json.loads(entry)["recovered"]["processes"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache", "on.csv", "on.onnx", "one.csv", "one.onnx", "two.csv", "two.onnx"
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_a_signal_to_the_launcher_ends_all_behind_one_step(number: signal.Signals, tmp_path: Path) -> None:
    """What is kept is a state that one process goes on from."""
    long = replace(COMMON, steps=100_000, validate_every=0)
    process = launch(tmp_path / "out.onnx", *asked(long), "--log", str(tmp_path / "run.csv"))
    wait_for_rows(tmp_path / "run.csv", 3)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode != 0 and stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx.recover", "run.csv"]
    done = int(rows(tmp_path / "run.csv")[-1]["step"])
    assert stderr.count(f"stopped after step {done} of 100000, kept in") == 1
    with pytest.raises(Killed):
        run(tmp_path / "out.onnx", long, progress=killing_at(done + 1))


def test_a_process_that_dies_ends_all_and_leaves_no_output(tmp_path: Path) -> None:
    process = launch(
        tmp_path / "out.onnx", "--steps", "100000", "--log", str(tmp_path / "run.csv"), "--save-every", "0"
    )
    wait_for_rows(tmp_path / "run.csv", 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    second = [child for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes()]
    os.kill(int(second[0]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode != 0 and "defect" not in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx.recover", "run.csv"]
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.thorough
def test_what_the_first_refuses_all_refuse(tmp_path: Path) -> None:
    (tmp_path / "out.onnx.recover").write_bytes(b"mine")
    process = launch(tmp_path / "out.onnx", "--steps", "2")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode != 0 and stderr.count("is no checkpoint of a training that can be read") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx.recover"]

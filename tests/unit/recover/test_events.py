"""Event files: the numbers of the table, a training that goes on in one curve, and what cannot be written."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest

from bot_onnx._recover.events import Events, check_events
from bot_onnx._recover.jobs import Settings, recover
from bot_onnx.errors import MissingRuntimeError, OutputError
from tests.unit.recover.samples import folder

pytestmark = pytest.mark.exporter
NAMES = ("loss", "validation_loss", "learning_rate")


def curves(where: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard reads: value by step, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(where))
    read.Reload()
    return {name: {point.step: point.value for point in read.Scalars(name)} for name in read.Tags()["scalars"]}


def told(where: Path, every: int, done: int, steps: range) -> None:
    events = Events(where, every, done)
    for step in steps:
        events.row(step, step == 9, {"loss": done + step / 8, "validation_loss": 0.5 if step == 3 else None})
    events.close()


def test_a_run_that_goes_on_replaces_what_is_behind_its_state(tmp_path: Path) -> None:
    told(tmp_path, 1, 0, range(1, 7))
    told(tmp_path, 1, 4, range(5, 10))
    found = curves(tmp_path)
    assert found["loss"] == {**{step: step / 8 for step in range(1, 5)}, **{s: 4 + s / 8 for s in range(5, 10)}}
    assert found["validation_loss"] == {3: 0.5}
    told(tmp_path, 4, 0, range(1, 10))
    assert curves(tmp_path) == {"loss": {3: 0.375, 4: 0.5, 8: 1.0, 9: 1.125}, "validation_loss": {3: 0.5}}


def test_the_numbers_are_those_of_the_table(tmp_path: Path) -> None:
    here, settings = folder(), Settings(steps=4, batch=16, threads=1, validate_every=2)
    recover(
        here / "small.onnx", here / "teacher.onnx", here / "digits.npz", tmp_path / "out.onnx", settings=settings,
        log=tmp_path / "run.csv", tensorboard=tmp_path / "runs",
    )  # fmt: skip
    with (tmp_path / "run.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    found = curves(tmp_path / "runs")
    assert len(table) == 4 and found.keys() == set(NAMES)
    for name in NAMES:
        wanted = {int(row["step"]): float(row[name]) for row in table if row[name]}
        assert found[name] == pytest.approx(wanted, rel=1e-6)


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(OutputError, match="runs is a file, and TensorBoard reads folders"):
        check_events(tmp_path / "runs")
    load = importlib.import_module

    def without(name: str) -> object:
        if name == "torch.utils.tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return load(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingRuntimeError, match=r"TensorBoard is needed to write event files.*\[tensorboard\]"):
        check_events(tmp_path / "other")

"""The source of a sweep is analysed once, and what is made of it is what a resize alone makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bot_onnx
from bot_onnx import _engine, _held, _sweeping
from bot_onnx._held import HeldSource
from bot_onnx._request import ResizeRequest
from tests.graphs import residual_mlp_model, save

Counted = list[object]


def counting(analyse: Callable[[Any], Any], calls: Counted) -> Callable[[Any], Any]:
    def counted(model: Any) -> Any:
        calls.append(model)
        return analyse(model)

    return counted


@pytest.fixture
def analyses(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Of sources, wherever they are made; verification analyses outputs by a name of its own."""
    calls: Counted = []
    for module in (_engine, _held):
        monkeypatch.setattr(module, "analyse", counting(module.analyse, calls))
    return calls


def test_a_sweep_analyses_its_source_once_whatever_is_refused_between(tmp_path: Path, analyses: Counted) -> None:
    pytest.importorskip("optuna", reason="needs the extra 'sweep'")
    model = save(residual_mlp_model(), tmp_path)
    specs = {"a": {"hidden": 4}, "wrong": {"layers": 2, "dims": {"none": 3}}, "b": {"layers": 2}, "c": {"layers": 5}}
    found = bot_onnx.sweep(model, specs, methods=("bot", "front"), keep=tmp_path / "kept")
    assert [trial.outcome.status for trial in found.trials].count("scored") == 6
    assert len(found.trials) == 8 and len(analyses) == 1
    assert _sweeping._held._opened is None  # nothing stays open
    for trial in found.trials:
        if trial.kept is not None:
            request = ResizeRequest(specs[trial.combination.spec], method=trial.combination.method)
            alone = bot_onnx.open(model).resize(request, tmp_path / "alone" / "model.onnx", force=True)
            assert alone.output.read_bytes() == trial.kept.read_bytes()


def test_another_source_or_a_changed_one_is_analysed_anew(tmp_path: Path, analyses: Counted) -> None:
    held, out = HeldSource(), tmp_path / "out"
    first, second = (save(residual_mlp_model(n), tmp_path, f"{n}.onnx") for n in (2, 3))
    for path, count in ((first, 1), (first, 1), (second, 2), (first, 3)):
        held.resize(str(path), ResizeRequest({"hidden": 4}), out / f"{len(list(out.glob('*')))}.onnx")
        assert len(analyses) == count
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(1, 1))
    held.resize(str(first), ResizeRequest({"hidden": 4}), out / "new.onnx")
    assert len(analyses) == 4 and (out / "new.onnx").read_bytes() != (out / "0.onnx").read_bytes()
    held.resize(str(first), ResizeRequest({"hidden": 4}, input_shapes={"x": (3, 4)}), out / "shape.onnx")
    assert len(analyses) == 5
    held.close()


SCORE = """
import os, pathlib
from bot_onnx import _sweeping

def score(path):
    with open(pathlib.Path(__file__).with_name("seen"), "a") as seen:
        seen.write(f"{os.getpid()} {id(_sweeping._held._opened.analysis)}\\n")
    return os.path.getsize(path)
"""


@pytest.mark.thorough  # processes are started
def test_a_worker_keeps_its_analysis_from_trial_to_trial(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra 'sweep'")
    pytest.importorskip("distributed", reason="needs the extra 'sweep'")
    model = save(residual_mlp_model(), tmp_path)
    (tmp_path / "my.py").write_text(SCORE)
    specs = {str(layers): {"layers": layers} for layers in (1, 2, 4, 5)}
    bot_onnx.sweep(model, specs, methods=("bot", "front"), score=f"{tmp_path / 'my.py'}:score", jobs=2)
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == 8
    workers = {process for process, _ in seen}
    assert len({tuple(line) for line in seen}) == len(workers) <= 2 and str(os.getpid()) not in workers

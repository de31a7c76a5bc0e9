"""A trial: what is wrong with a combination is its outcome, what is wrong with the process is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot_onnx import __version__
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._request import ResizeRequest
from bot_onnx._sweep.trial import run_trial
from bot_onnx._sweep.types import Combination, Made, Scoring, Task
from bot_onnx._target import TargetSpec
from bot_onnx.errors import (
    BotError,
    DimError,
    GraphError,
    MissingRuntimeError,
    OutputError,
    ProofError,
    ResampleError,
    VerifyError,
)
from tests.graphs import residual_mlp_model, save

ONE = Combination("a", "bot", {})


def task(folder: Path, resize: Callable[[str, ResizeRequest, Path], Made]) -> Task:
    source = save(residual_mlp_model(), folder, "source.onnx")
    with open_model(source) as opened:
        digest = opened.sha256()
    specs = {"a": TargetSpec.parse({"hidden": 4})}
    base = ResizeRequest({}, seed=7)
    return Task(
        str(source), digest, base, specs, Scoring("cosine"), None, str(folder / "work"), "m.onnx", resize, __version__
    )  # fmt: skip


def raising(error: Exception) -> Callable[[str, ResizeRequest, Path], Made]:
    def resize(source: str, request: ResizeRequest, output: Path) -> Made:
        raise error

    return resize


@pytest.mark.parametrize("error", [DimError("no\nsuch dim"), ProofError("no\nsuch dim"), ResampleError("no\nsuch dim")])
def test_what_the_planner_or_the_method_refuses_is_refused(tmp_path: Path, error: BotError) -> None:
    outcome = run_trial(task(tmp_path, raising(error)), 0, ONE)
    assert (outcome.status, outcome.reason, outcome.score) == ("refused", "no such dim", None)
    assert not (tmp_path / "work" / "0").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (VerifyError("outputs differ"), "outputs differ"),
        (GraphError("it cannot be read"), "it cannot be read"),
        (ValueError("x"), "a defect of bot-onnx: unexpected ValueError: x"),
    ],
)
def test_what_fails_is_failed_and_says_why(tmp_path: Path, error: Exception, told: str) -> None:
    outcome = run_trial(task(tmp_path, raising(error)), 0, ONE)
    assert (outcome.status, outcome.reason) == ("failed", told)


@pytest.mark.parametrize(
    "error", [OutputError("disk full"), MissingRuntimeError("none"), OSError(28, "x"), MemoryError()]
)
def test_what_the_machine_lacks_is_no_outcome(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        run_trial(task(tmp_path, raising(error)), 0, ONE)


def test_another_source_or_version_is_no_outcome(tmp_path: Path) -> None:
    made = task(tmp_path, raising(GraphError("it has changed")))
    save(residual_mlp_model(layers=2), tmp_path, "source.onnx")
    with pytest.raises(GraphError, match="another model here than where the sweep began"):
        run_trial(made, 0, ONE)
    with pytest.raises(BotError, match=r"the sweep is one of 0\.0\.0"):
        run_trial(replace(made, version="0.0.0"), 0, ONE)


def test_the_request_is_the_base_with_the_combination(tmp_path: Path) -> None:
    seen: list[ResizeRequest] = []

    def resize(source: str, request: ResizeRequest, output: Path) -> Made:
        seen.append(request)
        save(residual_mlp_model(), output.parent, output.name)
        names = [value.name for value in residual_mlp_model().graph.output]
        return Made(10, 5, dict.fromkeys(names, 0.25))

    made = task(tmp_path, resize)
    outcome = run_trial(made, 3, Combination("a", "bot", {"wavelet": "db2"}))
    assert (outcome.status, outcome.score, outcome.size_bytes, outcome.parameters) == ("scored", 0.25, 10, 5)
    assert seen == [replace(made.base, spec=made.specs["a"], method="bot", options={"wavelet": "db2"})]
    with open_model(tmp_path / "work" / "3" / "m.onnx") as written:
        assert outcome.sha256 == written.sha256()

"""Specs whose keys relate to a source: checked beside it, by the sizes that a plan would give, and told without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner

import bot_onnx
from bot_onnx._cli import cli
from tests.graphs import residual_mlp_model, save
from tests.unit.fit.test_fit import DIGITS, convolutions

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "vit": lambda: onnx.load(DIGITS),
    "cnn": convolutions,
    "mlp": residual_mlp_model,
}


@pytest.fixture(params=sorted(MODELS))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(MODELS[request.param](), tmp_path)


@pytest.mark.parametrize("spec", [{"width": 0.5}, {"width": 0.4, "round_to": 4}])
def test_beside_its_source_a_factor_is_checked(source: Path, spec: dict[str, Any], tmp_path: Path) -> None:
    out = bot_onnx.resize(source, spec, tmp_path / "out.onnx").output
    report = bot_onnx.verify(out, spec=spec, against=source)
    assert report.passed and "dims" in {check.name for check in report.checks if check.status == "pass"}
    for wrong in (
        bot_onnx.verify(source, spec=spec, against=source),
        bot_onnx.verify(out, spec={"width": 0.7}, against=source),
    ):
        assert {check.name for check in wrong.checks if check.status == "fail"} == {"dims"}


def test_without_its_source_it_is_said_that_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    spec = tmp_path / "spec.json"
    spec.write_text('{"width": 0.5}')
    done = CliRunner().invoke(cli, ["verify", str(DIGITS), "--spec", str(spec)])
    assert done.exit_code == 0
    assert "; not checked: width." in done.stdout and "All" not in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("width"))
    assert "not checked" in line and "--against" in line
    assert repr(bot_onnx.verify(DIGITS, spec=spec)).endswith("passed, 8 checks, not checked: width>")


def test_a_source_that_the_spec_does_not_fit_is_a_failed_check(tmp_path: Path) -> None:
    source = save(residual_mlp_model(), tmp_path)
    report = bot_onnx.verify(source, spec={"width": 0.5, "heads": 3}, against=source)
    (failed,) = (check for check in report.checks if check.status == "fail")
    assert failed.name == "prediction" and "'heads'" in failed.detail

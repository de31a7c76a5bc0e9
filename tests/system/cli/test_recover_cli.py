"""``bot-onnx recover`` as one meets it: help, reports, what is missing, signals, kills."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bot_onnx._cli import cli
from bot_onnx._installing import install
from tests.system.cli.test_cli_process import POSIX, start
from tests.unit.recover.samples import folder

pytestmark = pytest.mark.exporter


def arguments(output: Path, *more: str) -> list[str]:
    here = folder()
    given = [here / "small.onnx", "--teacher", here / "teacher.onnx", "--data", here / "digits.npz", "-o", output]
    return ["recover", *map(str, given), "--threads", "1", "--batch", "16", *more]


def run(*given: str) -> Result:
    return CliRunner().invoke(cli, given)


def test_the_help_says_how_losses_are_chosen_and_shows_examples() -> None:
    printed = " ".join(run("recover", "--help").output.split())
    auto = "auto: divergence for logits and probabilities, squares for others, and similarity with it where"
    assert f"{auto} the widths differ" in printed
    assert "bot-onnx recover small.onnx --teacher model.onnx --data inputs.npz --steps 2000 -o out.onnx" in printed
    for heading in ("Data:", "Training:", "Output:", "Reporting:"):
        assert heading in printed


def test_a_run_reports_quality_before_and_after(tmp_path: Path) -> None:
    result = run(*arguments(tmp_path / "out.onnx", "--steps", "3"))
    assert result.exit_code == 0, result.output
    for told in (
        "before",
        "after",
        "same largest logit",
        "KL divergence",
        "squares, through a linear map",
        "1,293 samples",
    ):
        assert told in result.output
    assert (tmp_path / "out.onnx").is_file()


def test_a_watched_run_says_what_it_saw(tmp_path: Path) -> None:
    asked = ("--steps", "4", "--validate-every", "2", "--keep-best", "--accumulate", "2", "--log-every", "4")
    result = run(*arguments(tmp_path / "out.onnx", *asked, "--log", str(tmp_path / "run.csv"), "--json"))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [step for step, _ in told["validated"]] == [2, 4] and told["stopped"] is None
    assert told["written"] == min(told["validated"], key=lambda entry: entry[1])[0]
    assert told["settings"]["accumulate"] == 2
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert lines[0] == "step,loss,validation_loss,learning_rate,seconds"
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "4"]
    refused = run(*arguments(tmp_path / "other.onnx", "--patience", "2"))
    assert refused.exit_code == 1 and "--validate-every" in refused.output


@pytest.mark.parametrize("library", ["torch", "onnx2pytorch"])
def test_without_the_extra_it_says_what_to_install(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = arguments(tmp_path / "out.onnx")  # what makes the samples looks for PyTorch itself
    monkeypatch.setitem(sys.modules, library, None)
    result = run(*given)
    assert result.exit_code == 1
    assert install("cpu", "recover") in result.output
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_told_by_option(tmp_path: Path) -> None:
    result = run(*arguments(tmp_path / "out.onnx", "--mean", "grey"))
    assert result.exit_code == 2 and "--mean" in result.output
    result = run("recover", "small.onnx", "--data", "x")
    assert result.exit_code == 2 and "--teacher" in result.output


@pytest.mark.thorough
@POSIX
def test_ctrl_c_keeps_what_was_learnt_and_says_how_to_go_on(tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    process = start(*arguments(output, "--steps", "100000", "--save-every", "0"))
    kept = wait_for(tmp_path / "out.onnx.recover", process.pid)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert kept and process.returncode == 130 and stdout == ""
    assert "of 100000, kept in" in stderr and "the same command goes on from there" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx.recover"]


@POSIX
@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_very_same_file(tmp_path: Path) -> None:
    given = ("--steps", "150", "--save-every", "0")
    whole = run(*arguments(tmp_path / "whole.onnx", *given, "--quiet"))
    assert whole.exit_code == 0, whole.output
    process = start(*arguments(tmp_path / "out.onnx", *given))
    assert wait_for(tmp_path / "out.onnx.recover", process.pid)
    time.sleep(1)
    process.kill()
    process.communicate(timeout=60)
    assert [path.name for path in tmp_path.glob("*out.onnx*") if path.suffix != ".partial"] == ["out.onnx.recover"]
    data = json.loads(run(*arguments(tmp_path / "out.onnx", *given, "--json")).stdout)
    assert 0 < data["resumed"] < 150
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def wait_for(path: Path, process: int) -> bool:
    """Whether a file appears while a process is alive."""
    for _ in range(1200):
        if path.exists():
            return True
        os.kill(process, 0)
        time.sleep(0.1)
    return False


def test_the_published_file_may_be_the_quantised_one(tmp_path: Path) -> None:
    out, plain = tmp_path / "out.onnx", tmp_path / "plain.onnx"
    given = ("--steps", "3", "--quantize", "int8", "--quantize-on")
    (tmp_path / "none.npz").write_bytes(b"no archive")
    refused = run(*arguments(out, *given, str(tmp_path / "none.npz")))
    assert refused.exit_code == 1 and not (tmp_path / "out.onnx.recover").exists()  # before the training
    asked = run(*arguments(out, *given, str(folder() / "digits.npz"), "--json"))
    assert asked.exit_code == 0, asked.output
    told = json.loads(asked.stdout)
    assert run(*arguments(plain, "--steps", "3")).exit_code == 0
    rows = {cost["what"]: cost["size_bytes"] for cost in told["quantized"]["costs"]}
    assert list(rows) == ["source, float", "source, quantised", "recovered, float", "recovered, quantised"]
    assert rows["recovered, float"] == plain.stat().st_size and rows["recovered, quantised"] == out.stat().st_size
    assert told["output"] == told["quantized"]["output"] == str(out) and told["quantized"]["report"]["passed"]
    assert {path.name for path in tmp_path.iterdir()} == {"none.npz", "out.onnx", "plain.onnx"}

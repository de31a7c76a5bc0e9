"""``bot-onnx resize --learn`` as one meets it: help, usage, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bot_onnx._cli import cli
from bot_onnx.demo import model_bytes
from tests.unit.recover.samples import folder


def run(*given: str | Path) -> Result:
    return CliRunner().invoke(cli, ["resize", *map(str, given)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "vit.onnx").write_bytes(model_bytes())
    return tmp_path / "vit.onnx"


def test_the_help_shows_an_example() -> None:
    printed = " ".join(run("--help").output.split())
    assert "bot-onnx resize vit.onnx --hidden 384 --learn 100 --data samples.npz -o small.onnx" in printed
    assert "--learn-rate" in printed and "default: 0.01" in printed


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--learn", "5"], "'--learn' trains on data"),
        (["--learn-mix"], "'--learn-mix' is for '--learn'"),
        (["--data", "lines.txt"], "'--data' is for '--learn'"),
        (["--tokenizer", "t.json"], "'--tokenizer' belongs to '--vocab-from', '--vocab-keep' or '--learn'"),
        (["--pixel-std", "0.5"], "'--pixel-std' is for '--learn'"),
        (["--learn", "1", "--data", "x.npz", "--pixel-std", "a"], "--pixel-std: 'a' is no list of numbers"),
        (["--std", "0.5"], "of method 'scratch', not of 'bot'"),
        (["--learn", "0", "--data", "x.npz"], "0 is not in the range"),
    ],
)
def test_halves_of_a_request_are_usage_errors(given: list[str], told: str, source: Path) -> None:
    result = run(source, "--hidden", "32", *given)
    assert result.exit_code == 2 and told in result.stderr


def test_a_saved_plan_is_not_learned(source: Path) -> None:
    plan = source.with_name("plan.json")
    assert run(source, "--hidden", "32", "--dry-run", "--plan-out", plan).exit_code == 0
    result = run(source, "--plan", plan, "--learn", "5", "--data", "x.npz")
    assert result.exit_code == 2 and "leave --plan out to learn" in result.stderr


def test_a_dry_run_says_what_would_be_learned_and_its_plan_is_not_run_again(source: Path) -> None:
    data, plan, out = source.with_name("d.npz"), source.with_name("plan.json"), source.with_name("out.onnx")
    np.savez(data, image=np.zeros((9, 1, 8, 8), np.float32))
    result = run(source, "--hidden", "32", "--learn", "5", "--learn-mix", "--data", data, "--dry-run", "--json",
                 "--plan-out", plan)  # fmt: skip
    told = json.loads(result.stdout)
    assert told["asked"]["learned"]["steps"] == 5 and told["asked"]["learned"]["mix"] is True
    assert len(told["asked"]["learned"]["data_sha256"]) == 64 and told["promise"]["kept"] is None
    assert any("blocks mixed, in 5 steps" in note for note in told["notes"])
    result = run(source, "--plan", plan, "-o", out)
    assert result.exit_code == 1 and "the plan's operators are learned" in result.stderr and not out.exists()
    missing = run(source, "--hidden", "32", "--learn", "5", "--data", source.with_name("none.npz"))
    assert missing.exit_code == 1 and "there is no data at" in missing.stderr


def test_no_output_may_replace_the_data(source: Path) -> None:
    data = source.with_name("d.npz")
    np.savez(data, image=np.zeros((9, 1, 8, 8), np.float32))
    before = data.read_bytes()
    result = run(source, "--hidden", "32", "--learn", "5", "--data", data, "-o", data, "--force")
    assert result.exit_code == 1 and data.read_bytes() == before


@pytest.mark.exporter
def test_json_says_how_it_went(tmp_path: Path) -> None:
    here, out = folder(), tmp_path / "out.onnx"
    result = run(here / "teacher.onnx", "--layers", "3", "--hidden", "32", "--learn", "2", "--learn-mix", "--data",
                 here / "digits.npz", "-o", out, "--json", "--no-compare")  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["learned"]
    assert told["steps"] == 2 and len(told["loss"]) == 2 and told["operators"] == 22 and out.is_file()


def test_weights_of_another_type_are_refused_by_name(source: Path) -> None:
    data, half = source.with_name("d.npz"), source.with_name("half.onnx")
    np.savez(data, image=np.zeros((9, 1, 8, 8), np.float32))
    assert CliRunner().invoke(cli, ["quantize", str(source), "--to", "fp16", "-o", str(half), "-q"]).exit_code == 0
    result = run(half, "--hidden", "32", "--learn", "5", "--data", data, "--dry-run")
    assert result.exit_code == 1 and "is FLOAT16" in result.stderr and str(half) in result.stderr

"""The scripts in ``examples/``, run as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from bot_onnx._cli.recipes.example import EXAMPLE

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
SCRIPTS = Path(sys.executable).parent  #: where the command is installed


def run(*command: object) -> str:
    """What it prints; the package is the one of these tests."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))}
    environment["PATH"] = os.pathsep.join((str(SCRIPTS), os.environ["PATH"]))
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"resize.py", "replay.py", "commands.sh", "recipe.yaml"}


def widths(path: Path) -> set[int]:
    """Sizes of the axes of all tensors that are no counts of a few."""
    return {size for tensor in onnx.load(path).graph.initializer for size in tensor.dims if size > 16}


def test_resize(tmp_path: Path) -> None:
    told = run(sys.executable, EXAMPLES / "resize.py", tmp_path).splitlines()
    assert told[0] == "layers: [6]"
    assert told[1].endswith("every check passed: True") and told[2].endswith("outputs kept: True")
    assert {32, 128} <= widths(tmp_path / "small.onnx") and 64 not in widths(tmp_path / "small.onnx")
    assert {128, 512} <= widths(tmp_path / "large.onnx") and 64 not in widths(tmp_path / "large.onnx")


def test_replay(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "replay.py", tmp_path)
    assert "hidden: 64 -> 32\n" in printed and printed.endswith("the same bytes: True\n")


@pytest.mark.exporter  # needs PyTorch
def test_recipe(tmp_path: Path) -> None:
    """The recipe on the demo's model, with fewer steps of training; what its head says makes the files."""
    if not (find_spec("onnx2pytorch") and find_spec("yaml")):
        pytest.skip("needs the extras 'recover' and 'recipes'")
    text = (EXAMPLES / "recipe.yaml").read_text()
    assert text == EXAMPLE
    for line in text.splitlines():
        if line.startswith("#   python -c "):
            code = line.removeprefix("#   python -c ").strip('"')
            subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
    (tmp_path / "recipe.yaml").write_text(text.replace("steps: 1000", "steps: 5"))
    told = json.loads(run(sys.executable, "-m", "bot_onnx", "run", tmp_path / "recipe.yaml", "--json"))
    assert [step["state"] for step in told["steps"]] == ["made"] * 5
    assert 0 < (tmp_path / "small-int8.onnx").stat().st_size < (tmp_path / "model.onnx").stat().st_size / 10
    assert "| quantize | 8" in (tmp_path / "small-int8.md").read_text()


@pytest.mark.thorough
@pytest.mark.skipif(
    not (SCRIPTS / "bot-onnx").exists() or not shutil.which("bash"), reason="needs bash and the command"
)
def test_commands(tmp_path: Path) -> None:
    run("bash", EXAMPLES / "commands.sh", tmp_path)
    assert (tmp_path / "again" / "small.onnx").read_bytes() == (tmp_path / "small.onnx").read_bytes()

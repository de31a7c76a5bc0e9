"""The commands of the guides, run as they stand there on the demo's model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bot_onnx import demo

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = Path(sys.executable).parent  #: where the command is installed


def commands(page: str) -> list[str]:
    """Lines after a prompt in the blocks of a page, in order; one that goes on in the next line is whole."""
    blocks = re.findall(
        r"^```\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell does, with the package of these tests."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))}
    environment["PATH"] = os.pathsep.join((str(SCRIPTS), os.environ["PATH"]))
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=170, check=False
    )


@pytest.mark.parametrize(
    ("page", "codes", "made"),
    [
        ("report.md", [0, 0], ["small.onnx", "report.html"]),
    ],
)
def test_a_guide(page: str, codes: list[int], made: list[str], tmp_path: Path) -> None:
    """Each ends with its exit status, and leaves the files that it names."""
    lines = commands(page)
    assert len(lines) == len(codes), f"{page} has other commands now: {lines}"
    (tmp_path / "digits_vit.onnx").write_bytes(demo.model_bytes())
    for line, code in zip(lines, codes, strict=True):
        done = run(line, tmp_path)
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
    assert all((tmp_path / name).stat().st_size for name in made)

"""Fourteen kills; ``python -m tests.system.kill`` makes as many as one likes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("safetensors")  # for the commands that export and import

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and kills with SIGKILL")
def test_kills_leave_the_old_output_or_the_new_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.system.kill", "--kills", "14", "--seed", "7", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["faults"] == [] and told["kills"] + told["finished"] == 14
    assert told["old"] + told["new"] == 14 and told["kills"] >= 7
    assert list(tmp_path.iterdir()) == []

"""A hundred and twenty damaged files; ``python -m tests.system.fuzz`` makes as many as one likes."""

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
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_damaged_files_are_refused_or_do_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.system.fuzz", "--cases", "120", "--seed", "7", "--jobs", "2", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["faults"] == [] and told["cases"] == 120
    assert told["success"] >= 12 and told["refusal"] >= 60  # neither all harmless nor all refused
    assert [path.name for path in tmp_path.iterdir() if path.name != ".ses"] == []

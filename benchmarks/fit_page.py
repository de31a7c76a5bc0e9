"""Run ``bot-onnx fit`` on the demo model and put what it prints into ``docs/fit.md``.

    python -m benchmarks.fit_page

Every block that begins with ``$ bot-onnx fit`` is written anew; the times in it are those of this machine.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fit.md"
MODEL = ROOT / "bot_onnx" / "demo" / "digits_vit.onnx"
_BLOCK = re.compile(r"```\n\$ (bot-onnx fit [^\n]*)\n.*?```", re.DOTALL)
_MACHINE = re.compile(r"(?m)^Times: .*$")


def transcript(command: str) -> str:
    """The block of a command: what it prints where the model is called ``digits_vit.onnx``."""
    arguments = shlex.split(command.partition("#")[0])[1:]
    done = subprocess.run(
        [sys.executable, "-m", "bot_onnx", *arguments],
        cwd=MODEL.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )
    lines = [line.rstrip() for line in (done.stdout + done.stderr).splitlines()]
    return "\n".join(["```", f"$ {command}", *lines, "```"])


def main() -> None:
    """Write the page."""
    text = _BLOCK.sub(lambda found: transcript(found[1]), PAGE.read_text())
    told = environment()
    machine = f"Times: {told['system']}, {told['cpus']} processors, onnxruntime {told.get('onnxruntime')}."
    PAGE.write_text(_MACHINE.sub(machine, text))


if __name__ == "__main__":
    main()

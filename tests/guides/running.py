"""Runs a guide: its command lines as a shell does, its code in one interpreter, both in the folder of its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.guides.blocks import Step, steps
from tests.guides.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 900  #: seconds that a step may take
_LOOP = """
import json, sys, traceback
names = {"__name__": "__main__"}
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    try:
        exec(compile(json.loads(line), "the guide", "exec"), names)
        told = ""
    except BaseException:
        told = traceback.format_exc()
    print(json.dumps(told), file=answers, flush=True)
"""


class GuideError(AssertionError):
    """A step of a guide did something else than the guide says."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was run, and the seconds that it took."""

    step: Step
    seconds: float


def run_guide(page: str, folder: Path, python: Path = Path(sys.executable), *, installed: bool = False) -> list[Done]:
    """Make the files that a guide is about, and do what it says.

    Args:
        page: name of the guide.
        folder: where its commands are run; empty.
        python: of the environment that they are run in, whose scripts come first.
        installed: that environment has the package; else it is the one of these tests.

    Raises:
        GuideError: a command failed that should not, or did not where the page shows that it does.
    """
    environment = _environment(python, installed)
    preamble = SETTINGS[page].make(folder)
    found = []
    with _interpreter(python, folder, environment) as code:
        _execute(code, preamble, page)
        for step in steps(page):
            if step.kind == "shell" and step.text.startswith("pip install"):
                continue  # what the environment was made with
            began = time.perf_counter()
            if step.kind == "file":
                (folder / step.name).write_text(step.text, encoding="utf-8")
            elif step.kind == "python":
                _execute(code, step.text, page)
            else:
                _shell(step, folder, environment, page)
            found.append(Done(step, time.perf_counter() - began))
    missing = [name for name in SETTINGS[page].makes if not (folder / name).exists()]
    if missing:
        raise GuideError(f"{page}: no {', '.join(missing)} was made; there are {sorted(os.listdir(folder))}")
    return found


def _environment(python: Path, installed: bool) -> dict[str, str]:
    environment = {**os.environ, "PATH": os.pathsep.join((str(python.parent), os.environ["PATH"]))}
    if installed:
        environment.pop("PYTHONPATH", None)
    else:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))
    return environment


def _shell(step: Step, folder: Path, environment: dict[str, str], page: str) -> None:
    done = subprocess.run(
        step.text, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    if (done.returncode != 0) != step.fails:
        raise GuideError(
            f"{page}: {step.text}\nends with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )


@contextmanager
def _interpreter(python: Path, folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """An interpreter that keeps its names from block to block."""
    process = subprocess.Popen(
        [python, "-c", _LOOP], cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        _pipe(process.stdin).close()
        _pipe(process.stdout).close()
        process.wait(timeout=60)


def _execute(process: subprocess.Popen[str], code: str, page: str) -> None:
    to, answers = _pipe(process.stdin), _pipe(process.stdout)
    to.write(json.dumps(code) + "\n")
    to.flush()
    told = answers.readline()
    if not told or json.loads(told):
        raise GuideError(f"{page}:\n{code}\n{json.loads(told) if told else 'the interpreter ended'}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe

"""Kill commands with SIGKILL at random, and look at what is left.

Every command runs in a process of its own, forked from this one, which has imported everything and does nothing that
starts threads. Half of the kills come at a random moment of the command's time; the other half right before or after a
call that changes a name in a folder or waits for the disk, which a random moment would hardly ever meet.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bot_onnx._checkpoint.jobs
import bot_onnx._report.json_report
import bot_onnx._report.plan_report
import bot_onnx._report.transfer_report
import bot_onnx.api  # noqa: F401 - imported before forking
from bot_onnx._cli import main
from bot_onnx._onnxfile.data_files import locations
from bot_onnx._onnxfile.reader import open_model
from tests.system.kill.jobs import BYSTANDER, JOBS, Job, empty, make_inputs, quantise

#: What changes names, or waits for the disk: a kill before or after one of these calls.
_CALLS = ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync")

#: A file of some bytes that onnxruntime itself keeps among temporary files; it is there after every run, once.
_RUNTIME = ".ses"


@dataclass
class Tally:
    """What has come of the kills.

    Attributes:
        kills: commands that were killed while they ran. finished: that were done before.
        old, new: outputs that were found whole, the former or the new one.
        halves: exports whose config.json was missing until the next command.
        littered: folders with something left in them until the next command.
    """

    kills: int = 0
    finished: int = 0
    old: int = 0
    new: int = 0
    halves: int = 0
    littered: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Harness:
    """Runs kills in a folder.

    Args:
        folder: an empty one on the disk to be tried.
        seed: of what is killed when.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.inputs, self.outputs, self.temporary = (folder / name for name in ("inputs", "outputs", "temporary"))
        for path in (self.inputs, self.outputs, self.temporary):
            empty(path)
        make_inputs(self.inputs, lambda arguments: self.run(arguments)[0])
        self.before = _content(self.inputs)
        self.kept = folder
        self.known: dict[str, tuple[dict[str, str], float, int]] = {}

    def run(self, arguments: list[str], *, after: float | None = None, call: int | None = None) -> tuple[int, int]:
        """Run a command.

        Args:
            arguments: of the command.
            after: seconds until it is killed.
            call: which of the calls that matter it is killed at; odd numbers: afterwards.

        Returns:
            Its exit code (-9 if it was killed), and how many such calls it made (0 if it was killed).
        """
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _be(arguments, self.temporary, call, writing)
        os.close(writing)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        with open(reading, "rb") as told:
            counted = told.read()
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status), int(counted or 0)

    def try_one(self, name: str, tally: Tally) -> None:
        """Kill a command once and look at what is left."""
        job = JOBS[name]
        if name not in self.known:
            self._learn(name, job)
        new, seconds, calls = self.known[name]
        old = self._prepare(name, job)
        by_call = self.random.random() < 0.5
        moment = {"call": self.random.randrange(2 * calls)} if by_call else {"after": self.random.uniform(0, seconds)}
        code, _ = self.run(job.arguments(self.inputs, self.outputs, "new"), **moment)  # type: ignore[arg-type]
        if code not in (0, -signal.SIGKILL):
            tally.faults.append(f"{name} {moment}: exit code {code}")
        tally.kills += code != 0
        tally.finished += code == 0
        self._judge(f"{name} {moment}", job, old, new, tally)

    def _learn(self, name: str, job: Job) -> None:
        """Run the command undisturbed: what it makes, how long it takes, how many calls it makes."""
        self._prepare(name, job)
        started = time.perf_counter()
        code, calls = self.run(job.arguments(self.inputs, self.outputs, "new"))
        assert code == 0, name
        self.known[name] = self._state(), time.perf_counter() - started, calls

    def _prepare(self, name: str, job: Job) -> dict[str, str]:
        """Put the old output in its place."""
        saved = self.kept / f"old-{name}"
        if not saved.exists():
            empty(self.outputs)
            shutil.copy(self.inputs / BYSTANDER, self.outputs)
            if not job.fresh:
                assert self.run(job.arguments(self.inputs, self.outputs, "old"))[0] == 0, name
            shutil.copytree(self.outputs, saved)
        shutil.rmtree(self.outputs)
        shutil.copytree(saved, self.outputs)
        return self._state()

    def _state(self) -> dict[str, str]:
        return {name: digest for name, digest in _content(self.outputs).items() if name != BYSTANDER}

    def _judge(self, place: str, job: Job, old: dict[str, str], new: dict[str, str], tally: Tally) -> None:
        left = self._state()
        problem = _mixture(self.outputs, job, left, old, new)
        if problem:
            tally.faults.append(f"{place}: right after the kill: {problem}")
        tally.halves += "config.json" in job.outputs and "config.json" not in left
        tally.littered += left not in (old, new)
        if self.run(["inspect", str(self.outputs / BYSTANDER)])[0] != 0:
            tally.faults.append(f"{place}: the next command fails")
        kept = (".recover", ".resize")
        cleared = {name: digest for name, digest in self._state().items() if not Path(name).parts[0].endswith(kept)}
        if cleared not in (old, new):
            tally.faults.append(f"{place}: after the next command: {sorted(cleared)}, neither old nor new")
        if job.goes_on:
            code = self.run(job.arguments(self.inputs, self.outputs, "new"))[0]
            if code != 0 or self._state() != new:
                tally.faults.append(f"{place}: going on: exit code {code}, {sorted(self._state())}")
        tally.old += cleared == old
        tally.new += cleared == new
        if _content(self.inputs) != self.before:
            tally.faults.append(f"{place}: the source was touched")
        if found := [path.name for path in self.temporary.iterdir() if path.name != _RUNTIME]:
            tally.faults.append(f"{place}: left in the folder for temporary files: {found}")
            empty(self.temporary)


def kill(folder: Path, names: list[str], kills: int, seed: int, say: Callable[[str], None]) -> Tally:
    """Kill commands, each in its turn.

    Args:
        folder: an empty one. names: of the jobs. kills: how many. seed: of what is killed when. say: told each fault.
    """
    harness, tally = Harness(folder, seed), Tally()
    started = time.perf_counter()
    for number in range(kills):
        known = len(tally.faults)
        harness.try_one(names[number % len(names)], tally)
        for fault in tally.faults[known:]:
            say(fault)
    tally.seconds = time.perf_counter() - started
    return tally


def _be(arguments: list[str], temporary: Path, call: int | None, told: int) -> None:
    """Become a command; does not return."""
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = str(temporary)  # else Python tries it with a file, which a kill leaves there
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if not os.environ.get("BOT_ONNX_DEBUG"):
        os.dup2(null, 2)
    calls = _count_calls(call)
    code = 1
    try:
        if arguments[0] == "quantise":
            quantise(*arguments[1:])
            code = 0
        else:
            main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os.write(told, str(calls[0]).encode())
        os._exit(code)


def _count_calls(fatal: int | None) -> list[int]:
    """Count the calls that matter, and end the process at one of them."""
    counted = [0]

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            number, counted[0] = counted[0], counted[0] + 1
            if fatal == 2 * number:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*arguments, **named)
            finally:
                if fatal == 2 * number + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in _CALLS:
        setattr(os, name, watched(getattr(os, name)))
    return counted


def _mixture(folder: Path, job: Job, left: dict[str, str], old: dict[str, str], new: dict[str, str]) -> str:
    """What is wrong with an output that a command was killed over, or an empty string."""
    first = left.get(job.outputs[0])
    if first is None:
        return "" if job.fresh else "the output is gone"
    whole = old if first == old.get(job.outputs[0]) else new
    if first != whole[job.outputs[0]]:
        return "the output is neither the old nor the new one"
    if "config.json" in job.outputs:
        missing = "config.json" not in left
        return "" if missing or left["config.json"] == whole["config.json"] else "old and new are mixed"
    for name in locations(folder / job.outputs[0]):
        if left.get(name) != whole[name]:
            return f"{name} is not the data of the model that stands"
    with open_model(folder / job.outputs[0]):
        return ""


def _content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, folders by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        for path in folder.iterdir()
    }

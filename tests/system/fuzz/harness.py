"""Run commands on damaged files, each in a process of its own, and judge how they end.

A worker is forked from a process that has imported everything and has started no thread; it forks once more for every
command, so that a crash, a hang or a library left in a bad state ends with the case.
"""

from __future__ import annotations

import fnmatch
import gc
import hashlib
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

import onnx

from bot_onnx._cli import main
from bot_onnx._resample.registry import all_methods
from bot_onnx._runs.runtime import onnxruntime, session
from tests.system.fuzz.jobs import MODEL, OUT, Case, damage, draw, make_inputs
from tests.system.fuzz.seeds import SEEDS

#: What commands import when they run: done once, before anything is forked.
_NEEDED = (
    "bot_onnx.api bot_onnx._checkpoint.jobs bot_onnx._report bot_onnx._resample.methods bot_onnx._cli.commands.export "
    "bot_onnx._cli.commands.import_ bot_onnx._cli.commands.inspect bot_onnx._cli.method_options "
    "bot_onnx._cli.commands.resize bot_onnx._cli.commands.verify onnxruntime onnxruntime.quantization "
    "rich.console rich.table safetensors"
).split()

#: Seconds of a processor that a command may take, and how many times as long it may wait for others.
PATIENCE, LOAD = 20.0, 10.0
#: Bytes of memory that a command may ask for.
MEMORY = 8 << 30
#: A file of some bytes that onnxruntime itself keeps among temporary files.
_RUNTIME = ".ses"
_LONGEST = 1500  # characters of a message
_STOPPED = "stopped in the middle of its work"
_STANDS = "written and whole all the same"


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        number, seed, command, damage: of the case, in words.
        kind: success, refusal, stopped (onnxruntime brought the process down, which was said in a line) or fault.
        message: what the command said on stderr. faults: what is wrong with that, in words.
        seconds: that it took.
    """

    number: int
    seed: str
    command: str
    damage: str
    kind: str
    message: str
    faults: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Ending:
    """How a process ended: its exit code (negative: the signal; None: it was killed for time), and what it said."""

    code: int | None
    out: str
    err: str
    seconds: float


def prepare(folder: Path, jobs: int = 1) -> None:
    """Write what the commands read into an empty folder, and import what they need."""
    for name in _NEEDED:
        import_module(name)
    all_methods()
    # Commands run side by side; threads that wait for others would only take their time.
    session.__kwdefaults__["threads"] = 1
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        list(pool.map(_prepare, [folder] * len(SEEDS), SEEDS))
    assert not list((folder / "inputs").rglob(".*")), "something was left behind"
    gc.freeze()  # else every collection in a child would copy the pages of what it inherits


def _prepare(folder: Path, name: str) -> None:
    place, temporary = folder / "inputs" / name, folder / f"temporary-{name}"
    place.mkdir(parents=True)
    temporary.mkdir()
    make_inputs(place, name, lambda arguments: run(arguments, place, temporary).code or 0)


def fuzz(
    folder: Path, numbers: list[int], seed: int, jobs: int, patience: float = PATIENCE, keep: bool = False
) -> Iterator[Outcome]:
    """Run cases, and yield how they ended, in any order.

    Args:
        folder: an empty one. numbers: of the cases. seed: of all that is drawn. jobs: how many at a time.
        patience: seconds of a processor that a command may take. keep: leave folders of cases with faults.
    """
    prepare(folder, jobs)
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        waiting = {pool.submit(try_one, folder, seed, number, patience, keep): number for number in numbers}
        for done in as_completed(waiting):
            yield done.result()


def try_one(folder: Path, seed: int, number: int, patience: float = PATIENCE, keep: bool = False) -> Outcome:
    """Damage one file, run one command on it, and judge."""
    case, rng = draw(seed, number)
    place = folder / f"case-{number}"
    shutil.copytree(folder / "inputs" / case.seed, place, symlinks=True)
    (place / "made").mkdir()
    temporary = folder / f"temporary-{number}"
    temporary.mkdir()
    case = damage(case, place, rng)
    before = _content(place)
    ended = run(list(case.job.arguments), place, temporary, patience, case.surroundings)
    faults = [*_judge_words(case, ended), *_judge_files(case, ended, place, before)]
    faults += [f"left among temporary files: {path.name}" for path in temporary.iterdir() if path.name != _RUNTIME]
    if not faults and ended.code == 0:
        faults += _judge_outputs(case, place, temporary, patience)
    if not (keep and faults):
        shutil.rmtree(place)
        shutil.rmtree(temporary)
    stopped = "stopped" if _STOPPED in ended.err else "refusal"
    kind = "fault" if faults else "success" if ended.code == 0 else stopped
    command = " ".join((*case.job.arguments, *([f"[{case.surroundings}]"] if case.surroundings else [])))
    told = f"{case.damaged}: {'; '.join(case.done)}"
    return Outcome(number, case.seed, command, told, kind, ended.err, tuple(faults), ended.seconds)


def run(
    arguments: list[str], place: Path, temporary: Path, patience: float = PATIENCE, surroundings: str = ""
) -> Ending:
    """Run a command in a folder, in a process of its own."""
    return _apart(lambda: _be(arguments, surroundings), place, temporary, patience)


def _apart(act: Callable[[], None], place: Path, temporary: Path, patience: float) -> Ending:
    """Do something in a process of its own, and read what it says."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        reading, writing = os.pipe()  # closed by the end of the process, whatever it is
        child = os.fork()
        if child == 0:
            _begin(place, temporary, out.fileno(), err.fileno(), patience)
            _end(act)
        os.close(writing)
        ended = bool(select.select([reading], [], [], LOAD * patience)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        os.close(reading)
        status = os.waitpid(child, 0)[1]
        seconds = time.monotonic() - started
        texts = [_read(stream.fileno()) for stream in (out, err)]
        return Ending(os.waitstatus_to_exitcode(status) if ended else None, *texts, seconds)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode("utf-8", "replace")


def _begin(place: Path, temporary: Path, out: int, err: int, patience: float) -> None:
    os.chdir(place)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    os.dup2(out, 1)
    os.dup2(err, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(patience), int(patience) + 2))


def _end(act: Callable[[], None]) -> NoReturn:
    code = 99
    try:
        act()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _be(arguments: list[str], surroundings: str) -> None:
    """Become a command."""
    if surroundings == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif surroundings == "closed":
        os.close(1)
    elif surroundings == "broken":
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(writing)
        os.close(reading)
    elif surroundings == "threadless":
        threading.Thread.start = _no_thread  # type: ignore[method-assign]
    # Made for what is there now, as Python does when it starts.
    told = None if surroundings == "closed" else open(1, "w", closefd=False)  # noqa: SIM115
    sys.stdout = told  # type: ignore[assignment]
    main(arguments)


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _judge_words(case: Case, ended: Ending) -> list[str]:
    """What is wrong with an exit code and a message."""
    if ended.code is None:
        return [f"hangs: killed after {ended.seconds:.0f} s"]
    if ended.code == -signal.SIGXCPU:
        return ["takes too long"]
    if ended.code < 0:
        return [f"killed by {signal.Signals(-ended.code).name}"]
    lines = [line for line in ended.err.splitlines() if not line.startswith("terminate called")]  # libstdc++ says so
    unexpected = "defect of bot-onnx" in ended.err or "Traceback" in ended.err or ended.code == 99
    faults = ["unexpected error"] if unexpected else []
    reader_left = ended.code == 141 and case.surroundings == "broken"
    failed_checks = case.job.arguments[0] == "verify" and ended.code == 3 and not lines
    if reader_left or failed_checks:
        return faults
    if ended.code == 0:
        told = [line for line in lines if not line.startswith("Dry run: ")]
        return faults + ([f"says {told[0]!r} and succeeds"] if told else [])
    if ended.code in (1, 3, 4):
        return faults + _judge_error(ended.err, lines)
    if ended.code == 2:
        return faults + ([] if ended.err.startswith("Usage: ") else ["wrong usage without usage"])
    return [*faults, f"exit code {ended.code}"]


def _judge_error(message: str, lines: list[str]) -> list[str]:
    """What is wrong with the words of an error."""
    faults = []
    most = 2 if _STANDS in message else 1
    if not 1 <= len(lines) <= most or not lines[-1].startswith("error: "):
        faults.append(f"not one line of error, but {len(lines)}")
    if len(message) > _LONGEST:
        faults.append(f"a message of {len(message)} characters")
    if "/proc/" in message or "/fd/" in message:
        faults.append("shows a private file descriptor")
    return faults


def _judge_files(case: Case, ended: Ending, place: Path, before: dict[str, str]) -> list[str]:
    """What is wrong with what was written, and what was not to be written to."""
    after = _content(place)
    faults = [f"{name} was changed" for name in before if after.get(name) != before[name]]
    made = [name for name in after if name not in before]
    writes = (*case.job.writes, f"{OUT}.*.data")
    allowed = writes if ended.code == 0 or _STANDS in ended.err else ()
    if case.surroundings in ("broken", "closed", "full") and ended.code == 141:
        allowed = writes
    faults += [f"{name} was left behind" for name in made if not any(fnmatch.fnmatch(name, one) for one in allowed)]
    missing = [one for one in case.job.writes if not any(fnmatch.fnmatch(name, one) for name in made)]
    if ended.code == 0:
        faults += [f"{one} was not written" for one in missing if "*" not in one]
    return faults


def _judge_outputs(case: Case, place: Path, temporary: Path, patience: float) -> list[str]:
    """What is wrong with the models that a command has written."""
    faults = []
    for name in case.job.writes:
        if name.endswith(".onnx") and (place / name).exists():
            checked = _apart(lambda name=name: _check(name), place, temporary, 3 * patience)  # type: ignore[misc]
            if checked.code != 0:
                faults.append(f"{name} is no good model ({checked.code}): {checked.err[-300:]}")
            verified = run(["verify", name], place, temporary, patience)
            # What the source computes is NaN in some: then so is what the output computes, and verify says so of both.
            if verified.code != 0 and run(["verify", MODEL], place, temporary, patience).code == 0:
                faults.append(f"{name} does not pass verify ({verified.code}): {verified.err}{verified.out[:600]}")
    return faults


def _check(name: str) -> None:
    onnx.checker.check_model(name, full_check=True)
    onnxruntime().set_default_logger_severity(4)
    session(name)


def _content(folder: Path) -> dict[str, str]:
    """What every file of a folder holds, by its path; of folders and links what they are."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif name != "made":
            found[name] = "folder"
    return found

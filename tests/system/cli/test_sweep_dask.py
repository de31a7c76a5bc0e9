"""A sweep on workers of Dask's: killed in the middle it goes on, and a scheduler may be anywhere."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import bot_onnx
from tests.graphs import residual_mlp_model, save

pytest.importorskip("optuna", reason="needs the extra 'sweep'")
pytest.importorskip("distributed", reason="needs the extra 'sweep'")

DIGITS = Path(bot_onnx.__file__).parent / "demo" / "digits_vit.onnx"
#: Counts what it is called for; as an image classifier's accuracy would, it takes its time.
SCORE = """
import os, pathlib

def score(path):
    with open(pathlib.Path(__file__).with_name("calls"), "a") as calls:
        calls.write(f"{os.getpid()} {path}\\n")
    return os.path.getsize(path)
"""
SPECS = {"a": {"layers": 3}, "b": {"hidden": 32}, "c": {"layers": 2, "hidden": 32}, "d": {"hidden": 16}}
WAVELETS = "haar,db2,sym4,coif1,bior2.2"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "my.py").write_text(SCORE)
    for name, spec in SPECS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(spec))
    return tmp_path


def line(place: Path, model: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "bot_onnx",
        "sweep",
        str(model),
        "--score",
        str(place / "my.py") + ":score",
        *arguments,
    ]


def begin(place: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """In a process group of its own."""
    with open(place / "log", "ab") as log:
        return subprocess.Popen(words, cwd=place, stdout=log, stderr=log, start_new_session=True)


def found(place: Path, words: list[str]) -> dict[str, Any]:
    done = subprocess.run([*words, "--json"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def calls(place: Path) -> list[str]:
    file = place / "calls"
    return file.read_text().splitlines() if file.exists() else []


def finished(study: Path) -> int:
    """Trials with an outcome, read as any program may."""
    if not study.exists():
        return 0
    with closing(sqlite3.connect(f"file:{study}?mode=ro", uri=True, timeout=60)) as reader:
        query = "select count(*) from trials where state in ('COMPLETE', 'FAIL')"
        return int(reader.execute(query).fetchone()[0])


def until(seen: Any, seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def alive(group: int) -> bool:
    return any(_group(entry) == group for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _group(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except OSError:
        return None


@pytest.mark.slow
def test_a_sweep_on_a_local_cluster_that_is_killed_goes_on(place: Path) -> None:
    """4 specs, 2 methods, 5 wavelets of one of them, 5 depths of the other: 40 trials on the demo's model."""
    specs = [word for name in SPECS for word in ("--spec", f"{name}.json")]
    ways = [
        "--method",
        "bot,front",
        "--wavelet",
        WAVELETS,
        "--depth",
        "zero,random,consistence,repeat",
        "--align",
        "permute",
    ]
    words = line(place, DIGITS, *specs, *ways, "-o", "best.onnx", "--jobs", "2")
    for least in (5, 15):
        _killed_at(place, words, least)
    before, kept = finished(place / "sweep.db"), len(calls(place))
    assert 15 <= before < 36 and not (place / "best.onnx").exists()
    told = found(place, words)
    keys = {json.dumps(trial["combination"]) for trial in told["trials"]}
    assert len(told["trials"]) == len(keys) == 4 * (5 + 4)
    assert all(trial["outcome"]["status"] == "scored" for trial in told["trials"])
    # What was running when it was killed, two at a time, is made again; what was finished is not.
    assert told["resumed"] >= 13 and len(calls(place)) <= kept + 36 - told["resumed"] + 1
    assert (place / "best.onnx").stat().st_size == told["best"]["outcome"]["score"]
    hidden = [entry.name for entry in place.iterdir() if entry.name.startswith(".")]
    assert not hidden


def _killed_at(place: Path, words: list[str], least: int) -> None:
    """Run until so many trials are finished, and kill the whole process group."""
    process = begin(place, words)
    until(lambda: finished(place / "sweep.db") >= least or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not alive(process.pid), 30)


@pytest.mark.slow
def test_where_only_the_main_process_is_killed_the_workers_end(place: Path) -> None:
    model = save(residual_mlp_model(), place)
    (place / "a.json").write_text('{"hidden": 4}')
    process = begin(place, line(place, model, "--spec", "a.json", "--wavelet", WAVELETS, "--jobs", "2"))
    until(lambda: calls(place) or process.poll() is not None, 100)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not alive(process.pid), 30)


@contextmanager
def scheduler(place: Path, workers: int) -> Iterator[str]:
    """A scheduler and its workers, on this machine, each a process of its own as on a cluster."""
    file = place / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common]
    started = [begin(place, words)]
    try:
        until(file.exists, 100)
        words = [sys.executable, "-m", "distributed.cli.dask_worker", *common, "--nthreads", "4", "--no-nanny"]
        started += [begin(place, [*words, "--local-directory", str(place / f"w{n}")]) for n in range(workers)]
        address: str = json.loads(file.read_text())["address"]
        yield address
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.thorough
def test_a_scheduler_by_its_address(place: Path) -> None:
    model = save(residual_mlp_model(), place)
    (place / "a.json").write_text('{"hidden": 4}')
    (place / "b.json").write_text('{"layers": 1}')
    with scheduler(place, 2) as address:
        words = line(place, model, "--spec", "a.json", "--spec", "b.json", "--wavelet", WAVELETS)
        told = found(place, [*words, "--scheduler", address, "-o", "best.onnx"])
        assert len(told["trials"]) == 10 == len(calls(place))
        assert len({call.split()[0] for call in calls(place)}) <= 2
    assert str(os.getpid()) not in {call.split()[0] for call in calls(place)}
    alone = found(place, [*words, "--jobs", "1", "--study", "alone.db"])
    scores = [
        sorted((json.dumps(trial["combination"]), trial["outcome"]["sha256"]) for trial in run["trials"])
        for run in (told, alone)
    ]
    assert scores[0] == scores[1]


@pytest.mark.thorough
def test_no_scheduler_there(place: Path) -> None:
    model = save(residual_mlp_model(), place)
    (place / "a.json").write_text('{"hidden": 4}')
    words = line(place, model, "--spec", "a.json", "--scheduler", "tcp://127.0.0.1:9")
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, env={**os.environ, "BOT_ONNX_DEBUG": ""})
    assert done.returncode == 1 and "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr

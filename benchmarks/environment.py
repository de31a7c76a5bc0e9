"""What a benchmark's figures depend on: interpreter, processors, package versions.

Imports none of the packages: ``whole_command`` has to stay small itself.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CACHE_VARIABLE = "BOT_ONNX_BENCH_CACHE"
PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy", "PyWavelets", "networkx")


def environment() -> dict[str, str | int | None]:
    """Python, system, number of processors, and the version of every package that is installed."""
    found: dict[str, str | int | None] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cache_folder(name: str) -> Path:
    """Where a benchmark keeps models, data and finished runs; it is made where it is missing."""
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "bot-onnx-bench") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path of this process to write to, which becomes ``path`` when all is written: a kill leaves no half a file."""
    part = path.with_name(f"{os.getpid()}-{path.name}")
    yield part
    part.replace(path)


def machine() -> str:
    """The machine in a few words: processor, number of processors, Python, system."""
    name = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {platform.system()}"


def commit() -> str:
    """The commit that a benchmark's code is of, in short; empty where it is none."""
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def this_run(module: str) -> dict[str, str]:
    """Command, machine, commit and date (UTC) of the running ``python -m module``, as its page shows them."""
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "machine": machine(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }

"""Where the time of a command goes: its profile by package, in a few lines."""

from __future__ import annotations

import pstats
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGES, _FUNCTIONS = 6, 6  #: lines of each
_BUILTIN: Final = "~"  #: the file that a profile gives for what is written in C

_Function = tuple[str, int, str]


def profile_of(arguments: Sequence[str], scratch: Path) -> list[str]:
    """Profile ``python ARGUMENTS`` (a script, or ``-m`` and a module, with their own arguments).

    Returns:
        What share of the main thread's time went to importing, to which packages, and to which functions; what is
        written in C counts for who calls it. Other threads show as waiting.

    Raises:
        RuntimeError: it ended without one, as a command does that gives way to another program.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        kept = Path(folder, "profile")
        command = [sys.executable, "-m", "cProfile", "-o", str(kept), *arguments]
        run = subprocess.run(
            command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if not kept.is_file():
            raise RuntimeError(f"{' '.join(command)} left no profile: {run.stderr[-500:]}")
        return lines_of(pstats.Stats(str(kept)))


def lines_of(stats: pstats.Stats) -> list[str]:
    """The lines of a profile; see :func:`profile_of`."""
    entries = stats.stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in entries.values()) or 1.0
    packages: Counter[str] = Counter()
    importing = 0.0
    for (file, _, name), (_, _, own, whole, callers) in entries.items():
        if name == "_find_and_load":
            importing = max(importing, whole)
        if file != _BUILTIN or not callers:
            packages[_package(file)] += own
            continue
        for (caller, _, _), told in callers.items():
            packages[_package(caller)] += told[2]
    heaviest = sorted(entries.items(), key=lambda entry: -entry[1][2])[:_FUNCTIONS]
    return [
        f"importing modules: {importing / total:.0%} of {total:.1f} s under the profiler",
        *(f"{package}: {own / total:.0%}" for package, own in packages.most_common(_PACKAGES)),
        *(
            f"`{_shown(function)}`: {entry[2] / total:.0%} in itself, {entry[0]:,} calls"
            for function, entry in heaviest
        ),
    ]


def _package(file: str) -> str:
    """The folder of ours, or the package of others, that a file belongs to."""
    parts = PurePath(file).parts
    if "bot_onnx" in parts:
        place = len(parts) - 1 - parts[::-1].index("bot_onnx")
        return ".".join(("bot_onnx", *parts[place + 1 : -1][:1]))
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    return "benchmarks" if "benchmarks" in parts else "Python"


def _shown(function: _Function) -> str:
    file, _, name = function
    return name.strip("<>{}") if file == _BUILTIN else f"{_package(file)}: {PurePath(file).stem}.{name.strip('<>')}"

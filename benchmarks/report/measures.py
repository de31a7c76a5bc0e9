"""How the rows are measured: commands in processes of their own, in turns, and scripts that print their figures."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report.types import Place
from benchmarks.whole_command import ROOT, CommandError, Run, bert_base, run_once

BASELINE: Final = ROOT / "benchmarks" / "baseline_resample.py"
LONG: Final = 40.0  #: seconds from which on a command is run once
_MB: Final = 1e6

#: What every command of ours starts with.
OURS: Final = (sys.executable, "-m", "bot_onnx")

BUILD: Final = """
import sys
from pathlib import Path
from benchmarks.report import sources
getattr(sources, sys.argv[1])(Path(sys.argv[2]))
"""


def in_turn(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[Run]]:
    """Run commands in turn, after one run that counts only where it takes long.

    Raises:
        CommandError: one fails.
    """
    results = {name: [run_once(command)] for name, command in commands.items()}
    short = {name for name, first in results.items() if first[0].seconds < LONG}
    for name in short:
        results[name].clear()
    for _ in range(runs):
        for name in commands:
            if name in short:
                results[name].append(run_once(commands[name]))
    return results


def cpu(runs: Sequence[Run]) -> float:
    """Processor seconds of the median run."""
    return statistics.median(run.cpu_seconds for run in runs)


def seconds(runs: Sequence[Run]) -> float:
    """Seconds of the median run."""
    return statistics.median(run.seconds for run in runs)


def peak(runs: Sequence[Run]) -> float:
    """MB at the peak of the worst run."""
    return max(run.peak_bytes for run in runs) / _MB


def bert(place: Place) -> Path:
    """BERT-base with random weights."""
    return bert_base(place.cache)


def made(place: Place, kind: str, name: str) -> Path:
    """A model that a function of :mod:`benchmarks.report.sources` writes, in a process of its own, if it is not there.

    Raises:
        CommandError: it could not be made.
    """
    path = place.cache / name
    if not path.exists():
        run_once([sys.executable, "-c", BUILD, kind, str(path)])
    return path


def resize(source: Path, place: Place, *options: str) -> tuple[str, ...]:
    """Our command on a source, with its output in the scratch folder."""
    return (*OURS, "resize", str(source), "-o", str(place.scratch / "out.onnx"), "--force", "-q", *options)


def script(place: Place, name: str, *arguments: str) -> Any:
    """What a benchmark of its own (``python -m NAME ... --json FILE``) found.

    Raises:
        CommandError: it fails.
    """
    kept = place.scratch / "script.json"
    run_once([sys.executable, "-m", name, *arguments, "--json", str(kept)])
    return json.loads(kept.read_text())


def probe(place: Place, kind: str, *arguments: str) -> dict[str, float]:
    """What a function of :mod:`benchmarks.report.probes` finds in a process of its own.

    Raises:
        CommandError: it fails.
    """
    kept = place.scratch / "probe.json"
    kept.unlink(missing_ok=True)
    run_once([sys.executable, "-m", "benchmarks.report.probes", kind, str(kept), *arguments])
    if not kept.is_file():
        raise CommandError(f"{kind}: nothing was found")
    found: dict[str, float] = json.loads(kept.read_text())
    return found

"""Times the whole command on BERT-base: a 440 MB file in, its half-size version out, in a process of its own.

The model (12 x 768, vocabulary 30,522, seeded random weights) is built once and kept in a cache folder. Then
``bot-onnx resize`` and a plain script around PyWavelets (``baseline_resample.py``, which does the weights only and
leaves the graph) take turns, and for each the wall time and the peak resident memory are recorded::

    python -m benchmarks.whole_command --json whole.json

Needs a Unix: the memory comes from ``os.wait4``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment

CACHE = Path.home() / ".cache" / "bot-onnx-bench"
ROOT = Path(__file__).resolve().parent.parent
BASELINE = Path(__file__).resolve().parent / "baseline_resample.py"
STDERR_LINES = 15

#: Starts a command and prints its exit code, seconds, processor seconds and peak. The kernel counts the peak of a child
#: from the peak of the process that starts it, so that this is a small one, whoever asks.
LAUNCH = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2)
_, status, used = os.wait4(process.pid, 0)
seconds = time.perf_counter() - start
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""

#: The model is built in a process of its own, which gives its memory back.
BUILD = """
import sys
from pathlib import Path
from benchmarks.synthetic import BERT_BASE, cached
print(cached(BERT_BASE, Path(sys.argv[1])))
"""


class CommandError(Exception):
    """A measured command failed: the message has the command, its exit code and the end of what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one command: wall time and processor time (user + system) in seconds, peak resident memory."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """All the timed runs of one command.

    Attributes:
        label: for the table.
        command: argument list.
        output_bytes: size of the file it wrote.
        runs: at least one.
    """

    label: str
    command: tuple[str, ...]
    output_bytes: int
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def cpu_seconds(self) -> float:
        """Median processor time: what the wall time would be on one idle processor, disk aside."""
        return statistics.median(run.cpu_seconds for run in self.runs)

    @property
    def peak_bytes(self) -> float:
        """Median peak resident memory."""
        return statistics.median(run.peak_bytes for run in self.runs)


def run_once(command: Sequence[str]) -> Run:
    """Runs a command from the repository's root to its end.

    Raises:
        CommandError: it cannot be started, or ends with an exit code other than 0.
    """
    # A file, not a pipe: a child that writes much would wait for a reader.
    with tempfile.TemporaryFile() as messages:
        launch = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
        ended = subprocess.run(
            launch, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, check=False
        )
        messages.seek(0)
        said = messages.read().decode(errors="replace").splitlines()[-STDERR_LINES:]
    if ended.returncode != 0:
        raise CommandError("\n".join([shlex.join(command), "could not be started", *said]))
    code, seconds, cpu_seconds, peak = json.loads(ended.stdout)
    if code != 0:
        raise CommandError("\n".join([shlex.join(command), f"exit code {code}", *said]))
    # Linux counts in KiB, macOS in bytes.
    return Run(seconds, cpu_seconds, peak * (1 if sys.platform == "darwin" else 1024))


def measure(commands: Mapping[str, tuple[Sequence[str], Path]], runs: int) -> list[Measurement]:
    """Runs every command once uncounted (file cache, byte code), then ``runs`` times taking turns.

    Args:
        commands: by label, the argument list and the file it writes.
        runs: timed runs of each.

    Raises:
        CommandError: a command fails or leaves no output.
    """
    results: dict[str, list[Run]] = {label: [] for label in commands}
    for turn in range(runs + 1):
        for label, (command, output) in commands.items():
            output.unlink(missing_ok=True)
            run = run_once(command)
            if not output.is_file():
                raise CommandError(f"{shlex.join(command)}\nended with exit code 0 but did not write {output}")
            if turn > 0:
                results[label].append(run)
    return [
        Measurement(label, tuple(command), output.stat().st_size, tuple(results[label]))
        for label, (command, output) in commands.items()
    ]


def bert_base(cache: Path) -> Path:
    """Path of the cached source model, built by a process of its own if it is not there yet.

    Raises:
        CommandError: it could not be built.
    """
    command = [sys.executable, "-c", BUILD, str(cache)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise CommandError(f"building the source model in {cache} failed\n{built.stderr}")
    return Path(built.stdout.strip())


def table(measurements: Sequence[Measurement], source: Path) -> Table:
    """One row a command, medians, with ratios against the last one (the baseline)."""
    reference = measurements[-1]
    title = f"{source.stat().st_size / 1e6:,.0f} MB in, median of {len(reference.runs)}"
    caption = f"x: against the {reference.label}, which resamples weights and nothing else"
    result = Table(title=title, caption=caption, box=SIMPLE, padding=0)
    result.add_column("command", no_wrap=True)
    for heading in ("seconds", "range", "x", "CPU s", "MB peak", "x", "MB out"):
        result.add_column(heading, justify="right", no_wrap=True)
    for item in measurements:
        times = [run.seconds for run in item.runs]
        result.add_row(
            item.label,
            f"{item.seconds:.2f}",
            f"{min(times):.2f}-{max(times):.2f}",
            f"{item.seconds / reference.seconds:.2f}",
            f"{item.cpu_seconds:.2f}",
            f"{item.peak_bytes / 1e6:,.0f}",
            f"{item.peak_bytes / reference.peak_bytes:.2f}",
            f"{item.output_bytes / 1e6:,.0f}",
        )
    return result


def as_json(measurements: Sequence[Measurement], source: Path) -> dict[str, object]:
    """Everything in the table, with every single run."""
    rows = [
        asdict(item)
        | {
            "median_seconds": item.seconds,
            "median_cpu_seconds": item.cpu_seconds,
            "median_peak_bytes": item.peak_bytes,
        }
        for item in measurements
    ]
    return {
        "benchmark": "whole_command",
        "source": source.name,
        "source_bytes": source.stat().st_size,
        "environment": environment(),
        "commands": rows,
    }


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time `bot-onnx resize` on BERT-base against a plain script.")
    parser.add_argument("--spec", default="bert-s", help="target spec, a name or a file (default bert-s)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each command, after one warm-up (default 5)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where the source model is kept (default {CACHE})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run here")
    parser.add_argument("--option", action="append", default=[], metavar="ARG", help="passed on to resize; repeatable")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    # The commands run from the repository's root.
    options.cache = options.cache.resolve()
    if Path(options.spec).is_file():
        options.spec = str(Path(options.spec).resolve())
    return options


def main() -> None:
    """Builds the model if need be, measures both commands and prints the table."""
    options, console = parse(), Console()
    try:
        source = bert_base(options.cache)
        # Beside the source, so that both read from and write to the same disk.
        with tempfile.TemporaryDirectory(prefix="out-", dir=options.cache) as folder:
            ours, plain = Path(folder, "bot.onnx"), Path(folder, "plain.onnx")
            resize = [sys.executable, "-m", "bot_onnx", "resize", str(source), "--spec", options.spec]
            commands = {
                "bot-onnx resize": ([*resize, "-o", str(ours), "--force", *options.option], ours),
                "plain script": ([sys.executable, str(BASELINE), str(source), str(plain)], plain),
            }
            measurements = measure(commands, options.runs)
    except CommandError as error:
        sys.exit(f"whole_command: {error}")
    console.print(table(measurements, source))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(measurements, source), indent=2) + "\n")


if __name__ == "__main__":
    main()

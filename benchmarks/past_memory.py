"""`bot-onnx resize` on models several times larger than the memory that it may have.

A Llama in float16 (7 B's width by default: 4096, 32 heads, intermediate 11008, vocabulary 32,000) and the same of half
the width are written at two depths, and each is resized to the other under a limit of memory: once from one data file,
once from a data file for every tensor. Beside each run the same bytes are read and written by a plain loop, as ``dd``
would, on the same disk, the file cache empty of them in both::

    python -m benchmarks.past_memory --limit 2e9 --layers 8 32 --json past.json

Weights look random and cost no arithmetic: pieces of one drawn block. The full run wants 17 GB of disk and leaves none
of it used; ``--keep-free`` bytes stay free at all times. Needs a Unix: the memory comes from ``os.wait4``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.limited import Limit, strictest
from benchmarks.memory import STD, Sizes, write_llama
from benchmarks.whole_command import CommandError, Run, run_once

_BLOCK: Final = 1 << 22  # bytes that the plain loop reads and writes at a time
_DRAWN: Final = 1 << 23  # numbers that are drawn

#: Models are built in a process of their own, which gives its memory back.
BUILD: Final = """
import json, sys
from pathlib import Path
from benchmarks.memory import Sizes
from benchmarks.past_memory import write
write(Path(sys.argv[1]), int(sys.argv[2]), Sizes(**json.loads(sys.argv[3])), many=sys.argv[4] == "many")
"""


def write(path: Path, layers: int, sizes: Sizes, *, many: bool) -> None:
    """Writes the model in half precision, and its weights beside it: random-looking numbers, around 1 in vectors.

    Args:
        path: of the model. layers, sizes: of the network. many: a data file for every tensor; else one for all.
    """
    import numpy as np
    import onnx

    write_llama(path, layers, sizes=sizes, half=True, sparse=True)
    model = onnx.load(path, load_external_data=False)
    if many:
        path.with_name(f"{path.name}.data").unlink()
    random = np.random.default_rng(0)
    drawn = (random.standard_normal(_DRAWN, dtype=np.float32) * np.float32(STD)).astype(np.float16)
    for tensor in model.graph.initializer:
        entries = {entry.key: entry for entry in tensor.external_data}
        if not entries:
            continue
        if many:
            entries["location"].value, entries["offset"].value = f"{path.name}.{tensor.name}.data", "0"
        target = path.with_name(entries["location"].value)
        with open(target, "wb" if many else "r+b") as data:
            data.seek(int(entries["offset"].value))
            left = int(np.prod(tensor.dims))
            while left:
                start = int(random.integers(0, _DRAWN // 2))
                piece = drawn[start : start + left]
                data.write((piece + np.float16(len(tensor.dims) == 1)).data)
                left -= len(piece)
    path.write_bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class Row:
    """One command: the model and how its weights lie, the bytes of both files, the run and the plain loop's seconds."""

    direction: str
    layers: int
    files: int
    source_bytes: int
    output_bytes: int
    run: Run
    plain_seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes of the source and of the output, per second of the command."""
        return (self.source_bytes + self.output_bytes) / self.run.seconds

    @property
    def of_plain(self) -> float:
        """The command's speed as a part of the plain loop's."""
        return self.plain_seconds / self.run.seconds


def forget(files: Sequence[Path]) -> None:
    """Asks the system to drop files from its cache, so that they are read from the disk."""
    for path in files:
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain(files: Sequence[Path], output_bytes: int, folder: Path) -> float:
    """Seconds to read files once and to write a number of bytes to the disk, block by block."""
    forget(files)
    target, block = folder / "plain", bytearray(_BLOCK)
    start = time.perf_counter()
    try:
        with open(target, "wb", buffering=0) as out:
            left = output_bytes
            for path in files:
                with open(path, "rb", buffering=0) as stream:
                    while stream.readinto(block):
                        left -= out.write(memoryview(block)[: max(0, min(left, _BLOCK))])
            while left > 0:
                left -= out.write(memoryview(block)[: min(left, _BLOCK)])
            os.fsync(out.fileno())
        return time.perf_counter() - start
    finally:
        target.unlink(missing_ok=True)


def beside(path: Path) -> list[Path]:
    """A model and its data files."""
    return sorted(entry for entry in path.parent.iterdir() if entry.name.startswith(path.name))


def measure(
    direction: str, source: Path, layers: int, target: Sizes, limit: Limit, options: Sequence[str], folder: Path
) -> Row:
    """Resizes a model to the sizes of a shape under a limit, then lets the plain loop do the same bytes.

    Raises:
        CommandError: the command fails.
    """
    files, out = beside(source), folder / "out" / "out.onnx"
    sizes = {"hidden": target.hidden, "heads": target.heads, "kv-heads": target.kv_heads}
    sizes |= {"intermediate": target.intermediate}
    asked = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    command = [sys.executable, "-m", "bot_onnx", "resize", str(source), *asked, "-o", str(out), *options]
    try:
        forget(files)
        run = run_once(limit.around(command))
        written = sum(path.stat().st_size for path in beside(out))
    finally:
        shutil.rmtree(out.parent, ignore_errors=True)
    read = sum(path.stat().st_size for path in files)
    return Row(direction, layers, len(files), read, written, run, plain(files, written, folder))


def rows_of(
    wide: Sizes, layers: int, many: bool, limit: Limit, directions: Sequence[str], options: Sequence[str], folder: Path
) -> Iterator[Row]:
    """Both directions between a shape and the one of half its width, at a depth; files are removed again."""
    narrow = Sizes(
        wide.hidden // 2, wide.heads // 2, wide.kv_heads // 2, wide.head_dim, wide.intermediate // 2, wide.vocab
    )
    for direction in directions:
        made, target = (wide, narrow) if direction == "smaller" else (narrow, wide)
        room = folder / "source"
        room.mkdir()
        try:
            told = [str(room / "llama.onnx"), str(layers), json.dumps(asdict(made)), "many" if many else "one"]
            run_once([sys.executable, "-c", BUILD, *told])
            yield measure(direction, room / "llama.onnx", layers, target, limit, options, folder)
        finally:
            shutil.rmtree(room)


def needed(shape: Sizes, layers: int) -> int:
    """Bytes of the larger and the smaller model together: of half the width, a quarter of a layer's weights."""
    attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
    return int(2 * 1.3 * (layers * (attention + 3 * shape.hidden * shape.intermediate) + shape.vocab * shape.hidden))


def table(rows: Sequence[Row], limit: Limit) -> Table:
    """One row a command."""
    title = f"bot-onnx resize under {limit.nbytes / 1e6:,.0f} MB ({limit.kind})"
    result = Table(title=title, box=SIMPLE, padding=0)
    for heading in ("to", "layers", "files", "MB in", "MB out", "MB peak", "s", "CPU s", "MB/s", "plain MB/s", "part"):
        result.add_column(heading, justify="left" if heading == "to" else "right", no_wrap=True)
    for row in rows:
        moved = row.source_bytes + row.output_bytes
        figures = (row.source_bytes, row.output_bytes, row.run.peak_bytes)
        result.add_row(
            row.direction,
            str(row.layers),
            str(row.files),
            *(f"{figure / 1e6:,.0f}" for figure in figures),
            f"{row.run.seconds:.0f}",
            f"{row.run.cpu_seconds:.0f}",
            f"{row.bytes_per_second / 1e6:,.0f}",
            f"{moved / row.plain_seconds / 1e6:,.0f}",
            f"{row.of_plain:.0%}",
        )
    return result


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="`bot-onnx resize` on models larger than its memory.")
    parser.add_argument("--limit", type=float, default=2e9, help="bytes of memory (default: %(default).0f)")
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 32], help="depths")
    parser.add_argument("--directions", nargs="+", choices=("smaller", "larger"), default=("smaller", "larger"))
    parser.add_argument("--files", nargs="+", choices=("one", "many"), default=("one", "many"), help="of the weights")
    for name, size in (("hidden", 4096), ("heads", 32), ("head-dim", 128), ("intermediate", 11008), ("vocab", 32000)):
        parser.add_argument(f"--{name}", type=int, default=size, help="of the wider model (default: %(default)s)")
    parser.add_argument("--option", action="append", default=[], help="one more for resize: --option=--no-compare")
    parser.add_argument("--keep-free", type=float, default=8e9, metavar="BYTES", help="of the disk")
    parser.add_argument("--folder", type=Path, help="where models are written and removed (default: a temporary one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run here")
    given = parser.parse_args()
    wide = Sizes(given.hidden, given.heads, given.heads, given.head_dim, given.intermediate, given.vocab)
    limit, rows = strictest(int(given.limit)), list[Row]()
    with tempfile.TemporaryDirectory(prefix="past-memory-", dir=given.folder) as name:
        folder = Path(name).resolve()
        short = needed(wide, max(given.layers)) + given.keep_free - shutil.disk_usage(folder).free
        if short > 0:
            sys.exit(f"past_memory: {short / 1e9:.1f} GB more of disk are needed: fewer --layers, or another --folder")
        try:
            for layers in given.layers:
                for files in given.files:
                    for row in rows_of(wide, layers, files == "many", limit, given.directions, given.option, folder):
                        rows.append(row)
                        _save(given.json, limit, given.option, rows)
        except CommandError as error:
            sys.exit(f"past_memory: {error}")
    Console(width=120).print(table(rows, limit))


def _save(path: Path | None, limit: Limit, options: Sequence[str], rows: Sequence[Row]) -> None:
    """After every run: the next one may take long."""
    if path is not None:
        told = {"benchmark": "past_memory", "environment": environment(), "limit": asdict(limit), "options": options}
        path.write_text(json.dumps(told | {"rows": [asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()

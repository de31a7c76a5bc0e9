"""Run everything that takes a CUDA device, within a given time, and write docs/gpu.json and docs/gpu.md as it goes.

python -m benchmarks.gpu                 # 30 minutes; once more: what was not done, or cut off
python -m benchmarks.gpu --dry-run       # what would run

Ends with code 3, and touches no page, where there is no device.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from benchmarks.environment import environment, machine
from benchmarks.gpu.book import ROOT, Book, run_sections
from benchmarks.gpu.page import write_page
from benchmarks.gpu.sections import SECTIONS
from bot_onnx._resample.devices import namespace
from bot_onnx.errors import ResampleError

NO_DEVICE = 3
PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "torch")


def about() -> dict[str, str | int | None]:
    """The device, and all versions.

    Raises:
        ResampleError: there is none.
    """
    namespace("cuda")
    runtime = importlib.import_module("cupy").cuda.runtime
    properties = runtime.getDeviceProperties(0)
    name, memory = properties["name"], properties["totalGlobalMem"]
    told = name.decode() if isinstance(name, bytes) else str(name)
    found: dict[str, str | int | None] = {"device": f"{told}, {memory / 1e9:.0f} GB", "host": machine()}
    found |= {"CUDA driver": runtime.driverGetVersion(), "CUDA runtime": runtime.runtimeGetVersion()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {name: value for name, value in environment().items() if name not in ("python", "system", "cpus")}


@click.command()
@click.option("--minutes", default=30.0, show_default=True, help="For all of it, this time.")
@click.option("--only", multiple=True, type=click.Choice([s.name for s in SECTIONS]), help="These sections alone.")
@click.option("--again", is_flag=True, help="Also what was done before.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and run nothing.")
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "docs" / "gpu.md", help="Beside it: the JSON.")
@click.option("--work", type=click.Path(path_type=Path), default=Path.home() / ".cache" / "bot-onnx-bench" / "gpu")
def main(minutes: float, only: tuple[str, ...], again: bool, dry_run: bool, page: Path, work: Path) -> None:
    """Run everything that takes a CUDA device."""
    sections = [section for section in SECTIONS if not only or section.name in only]
    if dry_run:
        for section in sections:
            click.echo(f"{section.name}: {section.least:g} to {section.most:g} minutes: {section.title}")
            click.echo(f"    {' '.join(section.command(work / section.name.replace(':', '-')))}")
        return
    try:
        found = about()
    except ResampleError as error:
        click.echo(f"no CUDA device: {error}", err=True)
        sys.exit(NO_DEVICE)
    book = Book(page.with_suffix(".json"), found)
    if again:
        for section in sections:
            book.sections.pop(section.name, None)
    work.mkdir(parents=True, exist_ok=True)
    run_sections(sections, book, minutes, work.resolve(), written=lambda: write_page(book, page), tell=click.echo)
    sys.exit(any(book.sections[section.name]["state"] == "failed" for section in sections))


if __name__ == "__main__":
    main()

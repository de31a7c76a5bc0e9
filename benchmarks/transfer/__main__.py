"""Run the study, and write what was found in a column into docs/transfer.md once it is done.

python -m benchmarks.transfer                                   # quick: GPT shrinking, one seed
python -m benchmarks.transfer --column gpt:grow@3 --column vit:shrink     # three seeds, one seed
python -m benchmarks.transfer --scale small --column all --seeds 3 --all
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks.environment import cache_folder, this_run
from benchmarks.transfer.page import Shown, write_page
from benchmarks.transfer.starts import STARTS, main_starts
from benchmarks.transfer.study import SCALES, Study


def _columns_asked(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, int | None], ...]:
    """``ARCH:DIRECTION[@SEEDS]`` or ``all`` -> (column, number of seeds); which there are depends on the scale."""
    parts = [value.partition("@") for value in values]
    for column, at, seeds in parts:
        if at and not (seeds.isdecimal() and int(seeds) > 0):
            raise click.BadParameter(f"the number of seeds after the @ must be 1 or more, as in {column}@3")
    return tuple((column, int(seeds) if at else None) for column, at, seeds in parts)


@click.command()
@click.option("--scale", type=click.Choice(list(SCALES)), default="quick", show_default=True)
@click.option(
    "--column",
    "wanted",
    callback=_columns_asked,
    metavar="ARCH:DIRECTION[@SEEDS]",
    multiple=True,
    default=("gpt:shrink",),
    show_default=True,
    help="Architecture and direction, or all; @SEEDS is the number of seeds of this column alone.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds of a column.")
@click.option("--short", type=click.IntRange(0), help="Short schedules for the first seeds alone; default: all.")
@click.option("--all", "everything", is_flag=True, help="Every start, not the main ones alone.")
@click.option("--start", "names", multiple=True, help="Only these starts (scratch always runs).")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/transfer.md"), show_default=True)
def main(
    scale: str,
    wanted: tuple[tuple[str, int | None], ...],
    seeds: int,
    short: int | None,
    everything: bool,
    names: tuple[str, ...],
    jobs: int,
    device: str,
    output: Path,
) -> None:
    """Train targets from every start and write the page."""
    unknown = [name for name in names if name not in STARTS]
    if unknown:
        raise click.UsageError(f"no start {unknown[0]!r}; there are: {', '.join(STARTS)}")
    possible = [f"{arch}:{direction}" for arch, sizes in SCALES[scale].sizes.items() for direction in sizes]
    asked = {column: own or seeds for given, own in wanted for column in (possible if given == "all" else (given,))}
    missing = [column for column in asked if column not in possible]
    if missing:
        raise click.UsageError(f"scale {scale} has no column {missing[0]}; there are: {', '.join(possible)}, all")
    cache = cache_folder("transfer")
    console = Console(stderr=True)
    began = time.perf_counter()

    def tell(line: str) -> None:
        console.print(f"[{time.perf_counter() - began:6.0f} s] {line}", highlight=False, markup=False)

    run = this_run("benchmarks.transfer")
    with Study(SCALES[scale], cache, device=device, jobs=jobs, tell=tell) as study:
        for column, number in asked.items():
            architecture, direction = column.split(":")
            chosen = names or (tuple(STARTS) if everything else main_starts(architecture))
            found = [
                study.column(architecture, direction, seed, chosen, short=short is None or seed < short)
                for seed in range(number)
            ]
            write_page([Shown.of(SCALES[scale], found, **run)], output)
            tell(f"wrote {column} into {output}")


if __name__ == "__main__":
    main()

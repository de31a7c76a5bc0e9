"""Run the study, and write what was found of a network into docs/real.md once it is done.

python -m benchmarks.real --model magika --steps 0 --steps 200          # minutes
python -m benchmarks.real --seeds 3 --steps 0 --steps 200 --steps 700 --steps 3000     # a day of a core
"""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks.environment import cache_folder, this_run
from benchmarks.real.models import MODELS
from benchmarks.real.page import Shown, write_page
from benchmarks.real.rows import WAYS
from benchmarks.real.study import Study


@click.command()
@click.option("--model", "models", type=click.Choice(list(MODELS)), multiple=True, help="Of these; all.")
@click.option("--way", "ways", type=click.Choice(list(WAYS)), multiple=True, help="Of these; all.")
@click.option("--steps", type=click.IntRange(0), multiple=True, default=(0, 200, 700), show_default=True)
@click.option(
    "--also",
    type=(click.Choice(list(WAYS)), click.IntRange(1)),
    multiple=True,
    help="WAY STEPS: this way longer, too, with the first seed.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/real.md"), show_default=True)
def main(
    models: tuple[str, ...],
    ways: tuple[str, ...],
    steps: tuple[int, ...],
    also: tuple[tuple[str, int], ...],
    seeds: int,
    output: Path,
) -> None:
    """Shrink, recover and measure, and write the page."""
    cache = cache_folder("real")
    console, began = Console(stderr=True), time.perf_counter()

    def tell(line: str) -> None:
        console.print(f"[{time.perf_counter() - began:6.0f} s] {line}", highlight=False, markup=False)

    run = this_run("benchmarks.real")
    longer = {way: [count for name, count in also if name == way] for way, _ in also}
    for key in models or tuple(MODELS):
        real = MODELS[key](cache)
        found = list(Study(real, cache, tell).run(ways or tuple(WAYS), steps, longer, seeds))
        write_page({key: Shown.of(real, found, **run)}, output)
        tell(f"wrote {key} into {output}")


if __name__ == "__main__":
    main()

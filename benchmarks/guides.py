"""How long what a guide says takes: every guide is run as it stands, and says so itself.

python -m benchmarks.guides                         # all of them, and the line in each page is written anew
python -m benchmarks.guides --page fit --fresh      # in a new environment with the extras that the page names
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import click

from tests.guides.blocks import DOCS, guides
from tests.guides.running import run_guide
from tests.guides.settings import SETTINGS

_ROOT = Path(__file__).resolve().parents[1]
_LINE = re.compile(
    r"\n\nThe commands and the code of this page took .*?\(`python -m benchmarks\.guides[^`]*`\)\.\n", re.S
)


@click.command()
@click.option("--page", "pages", type=click.Choice(list(SETTINGS)), multiple=True, help="Of these; all.")
@click.option("--fresh", is_flag=True, help="In a new environment that has what the page needs, and nothing else.")
@click.option("--write/--no-write", default=True, show_default=True, help="Write the time into the page.")
def main(pages: tuple[str, ...], fresh: bool, write: bool) -> None:
    """Run the guides, and write into each how long it took."""
    for page in pages or guides():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "work"
            place.mkdir()
            python = _environment(Path(folder) / "venv", page) if fresh else Path(sys.executable)
            done = run_guide(page, place, python, installed=fresh)
        seconds = sum(step.seconds for step in done)
        click.echo(f"{page}: {seconds:.0f} s, {len(done)} steps{', in a fresh environment' if fresh else ''}")
        for step in sorted(done, key=lambda step: -step.seconds)[:3]:
            click.echo(f"  {step.seconds:6.1f} s  {step.step.text.strip().splitlines()[0][:90]}")
        if write and not fresh:
            _write(page, seconds)


def _environment(folder: Path, page: str) -> Path:
    venv.create(folder, with_pip=True)
    python, setting = folder / "bin" / "python", SETTINGS[page]
    wanted = [f"{_ROOT}[{','.join(setting.extras)}]", *setting.beside]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def _write(page: str, seconds: float) -> None:
    """The line at the end of the page: rounded, for a machine is not another."""
    path = DOCS / f"{page}.md"
    text = _LINE.sub("\n", path.read_text(encoding="utf-8")).rstrip("\n")
    line = (
        f"The commands and the code of this page took {_rounded(seconds)} on two cores (`python -m benchmarks.guides`)."
    )
    path.write_text(f"{text}\n\n{line}\n", encoding="utf-8")


def _rounded(seconds: float) -> str:
    if seconds < 8:
        return "a few seconds"
    return f"about {round(seconds, -1):.0f} seconds" if seconds < 100 else f"about {seconds / 60:.0f} minutes"


if __name__ == "__main__":
    main()

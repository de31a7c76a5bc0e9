"""What a benchmark writes into a page of the documentation: between two marks, the rest is written by hand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.environment import this_run

DOCS = Path(__file__).resolve().parents[1] / "docs"
START, END = "<!-- measured -->", "<!-- end -->"


def told_of_run(module: str) -> str:
    """Command, date, commit and machine of the running ``python -m module``, in a sentence."""
    run = this_run(module)
    where = f"on {run['date']} at commit {run['commit']} on {run['machine']}"
    return f"`{run['command']}` {where}, one thread; other programs ran."


def block_of_run(command: str, date: str, commit: str, machine: str) -> list[str]:
    """The lines that stand below a table of a run that is kept: its command in a block, and when and where it ran."""
    return ["", "```", command, "```", "", f"On {date} at commit {commit} on {machine}."]


def write_measured(page: Path, told: str) -> None:
    """Put ``told`` between the marks of ``page``.

    Raises:
        ValueError: the page has no marks, or more than one pair.
    """
    before, rest = page.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    page.write_text(f"{before}{START}\n{told}\n{END}{after}", encoding="utf-8")

"""``docs/gpu.md``: what stands in it before ``<!-- measured -->`` is written by hand, all behind it is the book's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.gpu.book import Book

MARK = "<!-- measured: written by python -m benchmarks.gpu -->"


def write_page(book: Book, page: Path) -> None:
    """Put the book's tables where the page's last ones were.

    Raises:
        ValueError: the page has no mark.
    """
    text = page.read_text()
    if MARK not in text:
        raise ValueError(f"{page} has no line {MARK}")
    page.write_text(text[: text.index(MARK)] + measured(book))


def measured(book: Book) -> str:
    """The part behind the mark, the mark included."""
    about = ", ".join(f"{name} {value}" if name != "device" else str(value) for name, value in book.about.items())
    lines = [MARK, "", "## Measured", "", f"Command: `python -m benchmarks.gpu`. Machine: {about}.", ""]
    for section in book.sections.values():
        lines += [f"### {section['title']}", "", _ending(section), ""]
        if section["rows"]:
            lines += [*_table(section["rows"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _ending(section: dict[str, Any]) -> str:
    if section["state"] == "done":
        return f"Done in {section['seconds']:.0f} s."
    reason = str(section.get("reason", "")).strip().splitlines()
    return f"**{section['state'].capitalize()}**" + (f": {reason[0]}; … {reason[-1]}" if reason else ".")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    body = ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names), *body]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "" if value is None else str(value)

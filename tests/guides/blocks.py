"""The blocks of a page that a reader would copy, in the order in which they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DOCS = Path(__file__).resolve().parents[2] / "docs"
_FENCED = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+?) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"# (\S+\.py)\n")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a page says to do.

    Attributes:
        kind: ``shell`` for a command line, ``python`` for code, ``file`` for a file's text.
        text: it. name: of the file.
        fails: the page shows that it is refused.
    """

    kind: Literal["shell", "python", "file"]
    text: str
    name: str = ""
    fails: bool = False


def guides() -> list[str]:
    """Names of the guides, as the front page of the docs lists them."""
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    listed = text[text.index("**Guides**") : text.index("**Explanation**")]
    return re.findall(r"\]\(([\w-]+)\.md\)", listed)


def left_out(page: str) -> list[str]:
    """Why blocks of a page are not run, one reason a block."""
    return [found["why"] for found in _fenced(page) if found["why"]]


def steps(page: str) -> list[Step]:
    """What a page says to do."""
    found: list[Step] = []
    for block in _fenced(page):
        if block["why"]:
            continue
        if block["language"] == "python":
            named = _FILE.match(block["text"])
            found.append(Step("file", block["text"], named[1]) if named else Step("python", block["text"]))
        elif block["language"] == "":
            found += _commands(block["text"])
    return found


def _fenced(page: str) -> list[re.Match[str]]:
    return list(_FENCED.finditer((DOCS / f"{page}.md").read_text(encoding="utf-8")))


def _commands(text: str) -> list[Step]:
    """Command lines: those behind a prompt where there are any, else all; what goes on in the next line is whole."""
    lines = text.replace("\\\n", " ").splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    found = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        command = line.removeprefix("$ ") if prompted and line.startswith("$ ") else "" if prompted else line
        abridged = "…" in command  # stands for the line before it
        if command.strip() and not abridged:
            found.append(Step("shell", command, fails=after.startswith("error: ")))
    return found

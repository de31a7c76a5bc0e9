"""What has been run on a device, and what came of it: a JSON file that grows as sections end, and is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that are kept for writing the pages, and characters of what a failed section said.
RESERVE, SAID = 10.0, 2000

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Section:
    """One command of its own, in a process of its own.

    Attributes:
        name: key in the book. title: for the page.
        command: its arguments, given a folder for what it writes.
        read: the rows of what it wrote there, as far as it came.
        least, most: minutes that it is worth beginning with, and that it may take.
    """

    name: str
    title: str
    command: Callable[[Path], Sequence[str]]
    read: Callable[[Path], Rows]
    least: float
    most: float


class Book:
    """The sections' outcomes: ``done``, ``failed``, ``cut off`` (time was up), ``not begun``."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Go on with what is written in ``path``, where it is about the same; what was done on another is dropped."""
        self.path, self.about = path, dict(about)
        self.sections: dict[str, dict[str, Any]] = {}
        if path.is_file():
            found = json.loads(path.read_text())
            if found.get("about") == self.about:
                self.sections = found["sections"]

    def is_done(self, section: Section) -> bool:
        """Whether there is nothing more to run of it."""
        return self.sections.get(section.name, {}).get("state") == "done"

    def note(self, section: Section, state: str, rows: Rows, **more: Any) -> None:
        """Write down what came of a section; a later half does not replace an earlier one that came further."""
        before = self.sections.get(section.name, {})
        if state != "done" and len(before.get("rows", ())) > len(rows):
            rows = before["rows"]
        self.sections[section.name] = {"title": section.title, "state": state, "rows": rows, **more}
        self.save()

    def save(self) -> None:
        """The file, whole or not at all."""
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(json.dumps({"about": self.about, "sections": self.sections}, indent=1) + "\n")
        os.replace(part, self.path)


def run_sections(
    sections: Sequence[Section],
    book: Book,
    minutes: float,
    work: Path,
    *,
    written: Callable[[], None],
    tell: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run what is not done yet, in order, within ``minutes``; no section's failure stops another.

    Args:
        sections: what there is. book: where outcomes go.
        minutes: for all of it. work: a folder; every section gets one of its own in it.
        written: called after each section, to write the pages.
        tell: told how it goes. clock: seconds.
    """
    end = clock() + 60 * minutes - RESERVE
    for section in sections:
        if book.is_done(section):
            tell(f"{section.name}: done before")
            continue
        left = end - clock()
        if left < 60 * section.least:
            if section.name not in book.sections:
                book.note(section, "not begun", [], reason=f"it takes {section.least:g} minutes at least")
            tell(f"{section.name}: no time left")
            continue
        folder = work / section.name.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        tell(f"{section.name}: at most {min(left / 60, section.most):.1f} minutes")
        began = clock()
        state, said = _run([*section.command(folder)], min(left, 60 * section.most))
        rows, unread = _read(section, folder)
        if state == "done" and (unread or not rows):
            state, said = "failed", unread or f"it left no figures\n{said}"
        more = {} if state == "done" else {"reason": said[-SAID:]}
        book.note(section, state, rows, seconds=round(clock() - began, 1), **more)
        written()
        tell(f"{section.name}: {state}, {len(rows)} rows")
    written()


def _read(section: Section, folder: Path) -> tuple[Rows, str]:
    """The rows, or what is wrong with what was written."""
    try:
        return section.read(folder), ""
    except Exception as error:  # whatever a section cut off left behind, the next one is run
        return [], f"{type(error).__name__}: {error}"


def _run(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """``done``, ``failed`` or ``cut off``, and the end of what it said; its children end with it."""
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return "failed", str(error)
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return "cut off", f"its time of {seconds:.0f} s was up\n{said[-SAID:]}"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return ("done" if process.returncode == 0 else "failed"), f"exit code {process.returncode}\n{said[-SAID:]}"

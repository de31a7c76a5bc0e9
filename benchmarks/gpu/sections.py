"""What is run on a device, in order of what is wanted most."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

from benchmarks.gpu.book import Rows, Section
from benchmarks.gpu.rows import read_rows

#: Columns of the transfer study's scale ``small``; runs of one that was cut off are cached.
COLUMNS = (
    "gpt:shrink", "gpt:grow", "bert:shrink", "bert:grow", "vit:shrink", "vit:grow", "gpt:shrink-near", "gpt:shrink-far",
)  # fmt: skip


def _command_of_tests(folder: Path) -> list[str]:
    where = ["tests/unit", "-m", "gpu", "-q", f"--junitxml={folder / 'tests.xml'}"]
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *where]


def rows_of_tests(folder: Path) -> Rows:
    """How many passed, failed, and were skipped.

    Raises:
        ValueError: none of them ran.
    """
    suite = next(ElementTree.parse(folder / "tests.xml").iter("testsuite"))
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    if not passed + failed:
        raise ValueError("no test ran on the device")
    return [{"what": "pytest -m gpu", "passed": passed, "failed": failed, "skipped": count["skipped"]}]


def _script_command(module: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.gpu.{module}", "--json", str(folder / "rows.json")]


def _script_rows(folder: Path) -> Rows:
    return read_rows(folder / "rows.json")


def _transfer_command(column: str, folder: Path) -> list[str]:
    study = ["--scale", "small", "--device", "cuda", "--column", column, "--output", str(folder / "page.md")]
    return [sys.executable, "-m", "benchmarks.transfer", *study]


def transfer_rows(folder: Path) -> Rows:
    """A row for every start of the columns of a page's figures; none where the study was cut off."""
    page = folder / "page.json"
    if not page.is_file():
        return []
    return [
        {"what": f"{column['architecture']} {column['direction']}, {row['name']}"} | _numbers(row)
        for shown in json.loads(page.read_text())
        for column in shown["columns"]
        for row in column["rows"]
    ]


def _numbers(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if isinstance(value, int | float)}


SECTIONS = (
    Section("tests", "Tests on the device", _command_of_tests, rows_of_tests, 1, 6),
    Section("bandwidth", "Bandwidth", partial(_script_command, "bandwidth"), _script_rows, 1, 6),
    Section("commands", "Whole commands", partial(_script_command, "commands"), _script_rows, 1, 8),
    *(
        Section(f"transfer:{c}", f"Transfer study, small, {c}", partial(_transfer_command, c), transfer_rows, 1, 30)
        for c in COLUMNS
    ),
)

"""The page of figures is made of what is kept, and a ratio that is worse is found."""

from __future__ import annotations

import cProfile
import json
import pstats
from pathlib import Path

import pytest

from benchmarks.report import __main__ as command
from benchmarks.report.page import number, page
from benchmarks.report.profile import lines_of, profile_of
from benchmarks.report.rows import ROWS
from benchmarks.report.types import Goal, Measured, Place, Work

FAST = Goal("fast", "as fast as the script", 6, "×", more=True, ratio=True)
SMALL = Goal("small", "peak", 300, "MB")
TIMES = Goal("times", "over a copy", 2, "×", ratio=True)


def work(name: str = "row") -> Work:
    return Work(name, "Some work", (FAST, SMALL, TIMES), lambda place: {})


def kept(**figures: float) -> Measured:
    return Measured(figures, ["numpy: 40%"], "2026-01-02", "abc1234", "a machine", 2.5)


def test_the_page_is_written_from_what_is_kept() -> None:
    assert command.PAGE.read_text() == page(ROWS, command.published())


def test_goals_are_told_and_what_is_missed_explained() -> None:
    text = page((work(), work("other")), {"row": kept(fast=3.0, small=120.0, times=1.5)})
    assert "| Some work | `row` | as fast as the script | 3.00 × | ≥ 6.00 × | not reached |" in text
    assert "| peak | 120 MB | ≤ 300 MB | reached |" in text
    assert "Not reached: as fast as the script 3.00 ×." in text and "* numpy: 40%" in text
    assert "Not measured yet: `other`." in text
    assert "2026-01-02 at commit abc1234 on a machine: `row` (load 2.5)" in text


def test_parts_are_told_where_a_goal_is_missed() -> None:
    text = page((work(),), {"row": kept(fast=3.0, **{"part: while writing": 2.0})})
    assert "Of what it is made up:\n\n* while writing: 2.00 ×" in text
    assert "while writing" not in page((work(),), {"row": kept(fast=7.0, **{"part: while writing": 2.0})})


def test_a_page_without_misses_has_no_profile() -> None:
    assert "in the way" not in page((work(),), {"row": kept(fast=7.0, small=1.0)})


@pytest.mark.parametrize(
    ("fast", "times", "expected"),
    [(3.0, 2.0, 0), (2.5, 2.5, 0), (2.0, 2.0, 1), (3.0, 2.7, 1), (2.0, 9.0, 2), (9.0, 0.1, 0)],
)
def test_only_ratios_that_are_worse_are_regressions(fast: float, times: float, expected: int) -> None:
    before = {"row": kept(fast=3.0, times=2.0, small=1.0)}
    now = {"row": kept(fast=fast, times=times, small=1000.0)}
    assert len(command.regressions([work()], before, now)) == expected


def test_rows_measured_alone_join_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(command, "JSON", tmp_path / "figures.json")
    monkeypatch.setattr(command, "PAGE", tmp_path / "figures.md")
    monkeypatch.setattr(command, "ROWS", (work("one"), work("two")))
    command._write({"two": kept(fast=1.0)})
    command._write(command.published(command.JSON) | {"one": kept(fast=2.0)})
    assert list(json.loads(command.JSON.read_text())["rows"]) == ["one", "two"]
    assert command.published(command.JSON)["two"].figures == {"fast": 1.0}


def test_a_profile_counts_what_is_built_in_for_its_caller() -> None:
    profile = cProfile.Profile()
    profile.runcall(lambda: sorted(range(200_000), key=lambda n: -n))
    lines = lines_of(pstats.Stats(profile))
    assert lines[0].startswith("importing modules: 0%")
    assert any(line.startswith("benchmarks: ") and not line.endswith(" 0%") for line in lines)


def test_a_command_that_leaves_no_profile_is_told(tmp_path: Path) -> None:
    assert profile_of(("-m", "this"), tmp_path)[0].startswith("importing modules: ")
    gives_way = tmp_path / "gives_way.py"
    gives_way.write_text("import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])\n")
    with pytest.raises(RuntimeError, match=r"gives_way\.py left no profile"):
        profile_of((str(gives_way),), tmp_path)


def test_every_row_has_figures_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert len({goal.key for goal in row.goals}) == len(row.goals)
        assert any(goal.reach is not None for goal in row.goals)


@pytest.mark.parametrize(("value", "told"), [(0.351, "0.35 s"), (12.34, "12.3 s"), (1234.5, "1,234 s")])
def test_numbers_have_the_digits_that_were_measured(value: float, told: str) -> None:
    assert number(value, "s") == told


def test_a_row_that_misses_is_profiled(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(command, "profile_of", lambda arguments, scratch: [" ".join(arguments)])
    place = Place(tmp_path, tmp_path, False, 1)
    missed = Work("row", "Work", (SMALL,), lambda place: {"small": 400.0}, lambda place: ("-m", "x"))
    reached = Work("row", "Work", (SMALL,), lambda place: {"small": 200.0}, lambda place: ("-m", "x"))
    assert command.measured(missed, place).profile == ["-m x"]
    assert command.measured(reached, place).profile == []
    assert command.measured(missed, place, profiled=False).profile == []

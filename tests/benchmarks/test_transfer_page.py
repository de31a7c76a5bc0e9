"""The page of the transfer study: differences from the default seed by seed, and the columns of earlier runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.transfer import page as page_module
from benchmarks.transfer.measures import Row
from benchmarks.transfer.page import Shown, write_page
from benchmarks.transfer.study import SCALES, Column
from benchmarks.transfer.training import Curve

RUN = {"command": "command", "machine": "machine", "commit": "0123abc", "date": "2026-01-31"}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws is an extra."""
    monkeypatch.setattr(page_module, "_picture", lambda *_: None)


def column(seed: int, direction: str = "shrink", **finals: float) -> Column:
    """A column whose starts end at these losses, and begin 1 above."""
    rows = tuple(Row(n, False, 1e-3, end + 1.0, end, None, None, None, None) for n, end in finals.items())
    curves = {name: Curve((0, 10), (end + 1.0, end), 1.0) for name, end in finals.items()}
    return Column("gpt", direction, seed, 4.0, rows, curves)


def table(columns: list[Column], path: Path) -> dict[str, dict[str, str]]:
    """Cells of the page's table, by start and heading."""
    write_page([Shown.of(SCALES["quick"], columns, **RUN)], path)
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0].split("*")[1] if "*" in row[0] else row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_differences_are_those_of_a_seed(tmp_path: Path) -> None:
    columns = [column(0, bot=5.0, ws=5.25, scratch=6.0), column(1, bot=4.0, ws=4.125, scratch=4.5), column(2, ws=4.0)]
    cells = table(columns, tmp_path / "three.md")
    # Of the means ws has the lower one, 4.458 of three seeds against 4.5; in every seed that has both it is the worse.
    assert cells["ws"]["final loss"] == "4.458 ± 0.625"
    told = {name: row["against bot, seed by seed"] for name, row in cells.items()}
    assert told == {"ws": "+0.188 ± 0.062", "bot": "", "scratch": "+0.750 ± 0.250"}


@pytest.mark.parametrize(("finals", "difference"), [({"bot": 5.0, "ws": 4.75}, "-0.250"), ({"ws": 4.75}, "")])
def test_one_seed_has_no_spread_and_without_the_default_there_is_nothing(
    finals: dict[str, float], difference: str, tmp_path: Path
) -> None:
    cells = table([column(0, **finals)], tmp_path / "one.md")
    assert cells["ws"]["against bot, seed by seed"] == difference


def test_a_run_leaves_the_columns_of_others_and_replaces_its_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    grown, shrunk = column(0, "grow", bot=4.5, scratch=6.0), column(0, bot=5.0, scratch=6.25)
    write_page([Shown.of(SCALES["quick"], [grown], **RUN), Shown.of(SCALES["quick"], [shrunk], **RUN)], page)
    first = page.read_text()
    titles = [line for line in first.splitlines() if line.startswith("## ")]
    assert titles == ["## GPT, large to small, 1 seed", "## GPT, small to large, 1 seed"]
    again = [column(0, bot=4.75, scratch=6.25), column(1, bot=5.25, scratch=6.25)]
    write_page([Shown.of(SCALES["quick"], again, **RUN | {"command": "again", "date": "2026-02-01"})], page)
    second = page.read_text()
    assert "5.000 ± 0.250" in second and "On 2026-02-01" in second and "```\nagain\n```" in second
    assert "\n".join(first.splitlines()).count("4.500") == second.count("4.500") == 1  # what the other run has found
    assert "GPT large to small" not in second.split("not run here", 1)[0].split("What is missing", 1)[-1]
    assert "fewer than 3 seeds: GPT large to small, `quick`; GPT small to large, `quick`" in second


def test_short_schedules_are_those_of_the_seeds_that_have_them(tmp_path: Path) -> None:
    first, second = column(0, bot=5.0, scratch=6.0), column(1, bot=5.5, scratch=6.0)
    first = replace(first, rows=tuple(replace(row, short_saved=0.75) for row in first.rows))
    for short, told in ((False, "75 %"), (True, "never")):
        cells = table([first, replace(second, short=short)], tmp_path / f"{short}.md")
        assert cells["bot"]["saved, short"] == told
    assert table([replace(second, short=False)], tmp_path / "none.md")["bot"]["saved, short"] == "-"

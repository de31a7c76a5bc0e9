"""What was measured is found again, and the page says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.coverage import store as store_module
from benchmarks.coverage.__main__ import chosen, open_jobs, parser
from benchmarks.coverage.case import Case, Recipe, Row, Target
from benchmarks.coverage.page import render, share
from benchmarks.coverage.store import Store, row_key

BUILDER = "tests.benchmarks.coverage.builders:linear"
CASE = Case(
    "pair", "listed", Recipe(BUILDER, {"hidden": 8}),
    {"smaller": Target({"width": 0.5}, Recipe(BUILDER, {"hidden": 4})), "larger": Target({"width": 2.0})},
)  # fmt: skip
ROW = Row("listed", "pair", "torchscript17", "smaller", "equal", proof="native", distance=0.0, seconds=1.5)


def test_a_row_survives_the_process_and_a_half_written_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    key = row_key(CASE, "torchscript17", "smaller")
    kept = Store(path).add(ROW, key)
    with path.open("a") as file:
        file.write('{"suite": "listed", "cas')
    again = Store(path)
    assert again.rows == [kept] and again.current()[key].distance == 0.0


def test_another_engine_is_measured_anew_but_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = row_key(CASE, "torchscript17", "smaller")
    Store(tmp_path / "r.jsonl").add(ROW, key)
    monkeypatch.setattr(store_module, "engine_hash", lambda: "another")
    again = Store(tmp_path / "r.jsonl")
    assert again.current() == {} and [row.status for row in again.latest([key])] == ["equal"]


def test_keys_tell_sizes_specs_and_exporters_apart() -> None:
    other = replace(CASE, source=Recipe(BUILDER, {"hidden": 16}))
    spec = replace(CASE, targets={"smaller": replace(CASE.targets["smaller"], spec={"width": 0.25})})
    keys = {row_key(case, "torchscript17", "smaller") for case in (CASE, other, spec)}
    assert len(keys | {row_key(CASE, "dynamo18", "smaller"), row_key(CASE, "torchscript17", "larger")}) == 5


def test_options_choose_jobs_and_done_targets_are_left_out() -> None:
    options = parser().parse_args(["--filter", "=pair", "--exporter", "torchscript17"])
    jobs = chosen([CASE, replace(CASE, name="pairs")], options)
    assert [(job.case.name, job.exporter, job.targets) for job in jobs] == [
        ("pair", "torchscript17", ("smaller", "larger"))
    ]
    left = open_jobs(jobs, {row_key(CASE, "torchscript17", "smaller")})
    assert [job.targets for job in left] == [("larger",)]
    assert open_jobs(jobs, {row_key(CASE, "torchscript17", target) for target in CASE.targets}) == []


def test_page_counts_shares_and_says_why_not() -> None:
    rows = [
        ROW,
        replace(ROW, target="larger", status="wrong", detail="outputs differ | by 1", seconds=3.25),
        replace(ROW, target="other", status="frozen", detail="groups"),
        replace(ROW, case="odd", status="not exportable", detail="no"),
        replace(ROW, suite="timm", case="net", proof="growth", engine="old"),
    ]
    assert share(rows[:4]) == (1, 3)
    page = render(rows, command="python -m benchmarks.coverage", environment={"cpus": 2}, engine="")
    lines = page.splitlines()
    assert "| pair | torchscript17 | equal | **wrong** | **frozen** |" in lines
    assert "* pair (torchscript17 larger): wrong: outputs differ / by 1" in lines
    assert any(line.startswith("| Listed architectures | 4 | 1 | 1 | 0 | 1 |") and "33.3 %" in line for line in lines)
    assert "| net | torchscript17 | equal (growth) |" in lines
    assert "pair, torchscript17, larger: 3.2 s" in page and "1 of 5 rows" in page and "cpus 2" in page

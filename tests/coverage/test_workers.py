"""A job that dies or hangs is one row; the next one runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.coverage.case import Case, Recipe, Target
from benchmarks.coverage.workers import Job, run_jobs

pytestmark = [pytest.mark.exporter, pytest.mark.skipif(sys.platform == "win32", reason="forks")]


def job(function: str, **options: int) -> Job:
    target = Target({"width": 0.5})
    case = Case(function, "listed", Recipe(f"tests.coverage.builders:{function}", options), {"smaller": target})
    return Job(case, "torchscript17", ("smaller",))


def test_a_crash_and_a_hang_are_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    jobs = [job("crash"), job("hang"), job("linear", hidden=8)]
    rows = {row.case: row for row in run_jobs(jobs, tmp_path, parallel=3, timeout=60, preload=[])}
    assert rows["crash"].status == "failed" and "code 7" in rows["crash"].detail
    assert rows["hang"].status == "timeout"
    assert rows["linear"].status == "equal" and rows["linear"].proof == "growth"

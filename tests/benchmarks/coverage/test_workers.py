"""A job that dies or hangs is one row; the next one runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.coverage.case import Case, Recipe, Row, Target
from benchmarks.coverage.workers import Job, run_jobs

pytestmark = [pytest.mark.exporter, pytest.mark.skipif(sys.platform == "win32", reason="forks")]


def job(function: str, **options: int) -> Job:
    target = Target({"width": 0.5})
    case = Case(
        function, "listed", Recipe(f"tests.benchmarks.coverage.builders:{function}", options), {"smaller": target}
    )
    return Job(case, "torchscript17", ("smaller",))


def outcomes(folder: Path, timeout: float, patience: float, *jobs: Job) -> dict[str, Row]:
    return {row.case: row for row in run_jobs(jobs, folder, parallel=2, timeout=timeout, patience=patience, preload=[])}


@pytest.mark.thorough
def test_a_crash_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = outcomes(tmp_path, 60, 600, job("crash"), job("linear", hidden=8))
    assert rows["crash"].status == "failed" and "code 7" in rows["crash"].detail
    assert rows["linear"].status == "equal" and rows["linear"].proof == "growth"


def test_a_job_that_waits_for_ever_is_killed(tmp_path: Path) -> None:
    row = outcomes(tmp_path, 60, 3, job("hang"))["hang"]
    assert row.status == "timeout" and "by the clock" in row.detail


def test_an_endless_loop_is_killed(tmp_path: Path) -> None:
    row = outcomes(tmp_path, 1, 600, job("spin"))["spin"]
    assert row.status == "timeout" and "processor time" in row.detail

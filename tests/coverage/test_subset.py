"""A few cells of the coverage table, one of a kind, on every run of the tests; the whole table is a command."""

from __future__ import annotations

import pytest

from benchmarks.coverage.cases import load_cases
from benchmarks.coverage.judge import judge
from benchmarks.coverage.store import cache_folder

pytestmark = pytest.mark.exporter

CASES = {case.name: case for case in load_cases(["listed"])}

#: Kind of structure -> case and target that stand for it.
CELLS = (
    ("distilbert", "smaller"),
    ("albert", "other"),
    ("opt", "larger"),
    ("gpt2_cache", "smaller"),
)


@pytest.mark.parametrize(("name", "target"), CELLS)
def test_cell_is_equal(name: str, target: str) -> None:
    (row,) = judge(CASES[name], "torchscript17", (target,), cache_folder())
    assert (row.status, row.proof) == ("equal", "native"), row.detail

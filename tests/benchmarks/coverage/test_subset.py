"""A few cells of the coverage table, one of a kind, on every run of the tests; the whole table is a command."""

from __future__ import annotations

import pytest

from benchmarks.coverage.cases import load_cases
from benchmarks.coverage.judge import judge
from benchmarks.coverage.store import cache_folder

pytestmark = pytest.mark.exporter

CASES = {case.name: case for case in load_cases(["listed"])}

#: One cell for every kind of structure.
CELLS = (
    ("distilbert", "smaller"),
    ("albert", "other"),  # shared layers
    ("opt", "larger"),
    ("gpt2_cache", "smaller"),  # inputs and outputs of every layer
    ("t5_gated", "smaller"),  # two chains, tables of relative positions
    ("clip", "smaller"),  # two widths
    ("mamba", "smaller"),  # a scan written out
    ("swin", "smaller"),  # windows, stages
    ("resnet", "smaller"),
    ("regnet", "smaller"),  # groups
    ("mobilenet_v3", "smaller"),  # depthwise, squeeze and excite
    ("shufflenet", "smaller"),
    ("unet", "smaller"),
    ("conformer", "smaller"),
    ("bilstm", "smaller"),
)


@pytest.mark.parametrize(("name", "target"), CELLS)
def test_cell_is_equal(name: str, target: str) -> None:
    (row,) = judge(CASES[name], "torchscript17", (target,), cache_folder())
    assert (row.status, row.proof) == ("equal", "native"), row.detail

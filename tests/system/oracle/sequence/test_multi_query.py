"""Query heads beside one key and one value head in a fused projection: only the query heads change."""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import multi_query


@pytest.mark.parametrize("from_end", [True, False])
@pytest.mark.parametrize(("layers", "heads", "head_dim"), [(2, 2, 8), (4, 6, 4), (3, 8, 8)])
def test_resized_equals_native(layers: int, heads: int, head_dim: int, from_end: bool, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    spec = {"layers": layers, "heads": heads, "head_dim": head_dim, "hidden": heads * head_dim}
    assert bot_onnx.resize(save(multi_query(from_end=from_end), tmp_path), spec, out).report.passed
    wanted = save(multi_query(layers, heads, head_dim, from_end=from_end), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5

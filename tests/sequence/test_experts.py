"""Experts that a router picks are matrices: their inner width is an intermediate one, their number stays."""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from tests.graphs import save
from tests.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.sequence.graphs import experts


@pytest.mark.parametrize(("layers", "hidden", "inner"), [(2, 8, 8), (3, 4, 16), (5, 12, 20)])
def test_resized_equals_native(layers: int, hidden: int, inner: int, tmp_path: Path) -> None:
    source, out = save(experts(), tmp_path), tmp_path / "out.onnx"
    roles = {dim.role for dim in bot_onnx.inspect(source).structure.dims.values()}
    assert "intermediate" in roles
    assert "positions" not in roles
    spec = {"layers": layers, "hidden": hidden, "intermediate": inner}
    assert bot_onnx.resize(source, spec, out).report.passed
    wanted = save(experts(layers, hidden, inner), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5

"""Experts that a router picks are matrices: their inner width is an intermediate one, their number stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import FEATURES, experts


@pytest.mark.parametrize(("layers", "hidden", "inner"), [(2, 8, 8), (3, 4, 16), (5, 12, 20)])
def test_resized_equals_native(layers: int, hidden: int, inner: int, tmp_path: Path) -> None:
    source, out = save(experts(), tmp_path), tmp_path / "out.onnx"
    roles = {dim.role for dim in bot_onnx.inspect(source).structure.dims.values()}
    assert "intermediate" in roles
    assert "positions" not in roles
    assert "experts" in roles
    spec = {"layers": layers, "hidden": hidden, "intermediate": inner}
    assert bot_onnx.resize(source, spec, out).report.passed
    wanted = save(experts(layers, hidden, inner), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_channels_that_a_sparse_layer_ranks_are_no_experts(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(FEATURES, 8))
    scores = b.op("MatMul", x, b.weight(8, 16))
    best = b.op("TopK", scores, b.ints(4), outputs=2)
    sparse = b.op("ScatterElements", b.op("Mul", scores, b.constant(np.float32(0))), f"{best}.1", best, axis=1)
    b.op("MatMul", sparse, b.weight(16, 3))
    model = b.model([("x", ["batch", FEATURES])], [b.nodes[-1].output[0]])
    dims = bot_onnx.inspect(save(model, tmp_path)).structure.dims.values()
    assert all(dim.role != "experts" for dim in dims)
    assert any(dim.size == 16 and dim.frozen is not None for dim in dims)

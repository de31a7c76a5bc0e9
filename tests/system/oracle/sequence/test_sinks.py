"""Scores of sinks beside those of the keys: it is attention all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import sinks


@pytest.mark.parametrize(("layers", "heads", "head_dim"), [(2, 2, 8), (4, 6, 4), (3, 8, 8)])
def test_resized_equals_native(layers: int, heads: int, head_dim: int, tmp_path: Path) -> None:
    source, out = save(sinks(), tmp_path), tmp_path / "out.onnx"
    spec = {"layers": layers, "heads": heads, "head_dim": head_dim, "hidden": heads * head_dim}
    assert bot_onnx.resize(source, spec, out).report.passed
    wanted = save(sinks(layers, heads, head_dim), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_halved_width_keeps_the_size_of_heads(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    bot_onnx.resize(save(sinks(), tmp_path), {"width": 0.5}, out)
    sizes = {dim.role: dim.size for dim in bot_onnx.inspect(out).structure.dims.values()}
    assert (sizes["hidden"], sizes["heads"], sizes["head_dim"]) == (16, 2, 8)

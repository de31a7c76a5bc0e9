"""Layers that take turns in what they read from outside (local and global masks) go on taking turns."""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from bot_onnx.errors import GraphError
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import taking_turns


@pytest.mark.parametrize("layers", [2, 6, 9, 11])
@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_more_layers_keep_the_turns(kinds: int, layers: int, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    source = save(taking_turns([n % kinds for n in range(7)]), tmp_path)
    result = bot_onnx.resize(source, {"layers": layers}, out)
    assert result.report.passed
    assert result.plan.promise.kept is (layers > 7)
    wanted = save(taking_turns([n % kinds for n in range(layers)]), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_without_a_turn_more_layers_are_refused(tmp_path: Path) -> None:
    source = save(taking_turns([0, 0, 0, 1, 1, 1]), tmp_path)
    with pytest.raises(GraphError, match="in no pattern that more layers could go on with"):
        bot_onnx.resize(source, {"layers": 8}, tmp_path / "out.onnx")
    assert bot_onnx.resize(source, {"layers": 2}, tmp_path / "out.onnx").report.passed

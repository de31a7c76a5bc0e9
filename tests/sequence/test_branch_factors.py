"""A factor on what layers add may depend on their number: the plan says that it stays, and how to give another."""

from __future__ import annotations

from pathlib import Path

import bot_onnx
from tests.graphs import save
from tests.sequence.graphs import scaled_branches


def test_another_depth_is_noted_and_no_other_change(tmp_path: Path) -> None:
    source = save(scaled_branches(), tmp_path)
    (note,) = [n for n in bot_onnx.plan(source, {"layers": 6}).notes if "is scaled by" in n]
    assert "is scaled by 0.5 (Mul, node 'node_mul" in note
    assert "'constants'" in note
    assert not [n for n in bot_onnx.plan(source, {"hidden": 4}).notes if "is scaled by" in n]
    plain = save(scaled_branches(factor=1.0), tmp_path, "plain.onnx")
    assert not [n for n in bot_onnx.plan(plain, {"layers": 6}).notes if "is scaled by" in n]

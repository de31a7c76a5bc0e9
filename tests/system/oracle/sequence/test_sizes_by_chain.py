"""A spec gives chains of layers their own depth and width by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bot_onnx
from bot_onnx.errors import SpecError
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import two_towers


@pytest.mark.parametrize(
    ("spec", "hidden", "layers"),
    [
        ({"hidden": {"left": 4}}, (4, 8), (3, 3)),
        ({"hidden": {"left": 4, "right": 12}, "layers": {"right": 2}}, (4, 12), (3, 2)),
        ({"hidden": 16, "layers": [2, 5]}, (16, 16), (2, 5)),
        ({"intermediate": {"right": 24}, "hidden": {"right": 12}, "layers": 4}, (8, 12), (4, 4)),
    ],
)
def test_towers_get_their_own_sizes(
    spec: dict[str, Any], hidden: tuple[int, int], layers: tuple[int, int], tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(save(two_towers(), tmp_path), spec, out).report.passed
    native = transplant(analysis_of(out), analysis_of(save(two_towers(hidden, layers), tmp_path, "native.onnx")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5
    assert bot_onnx.verify(out, spec=spec).passed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hidden": {"lift": 4}}, "did you mean 'left'"),
        ({"heads": {"left": 4}}, "no dim in the layers of 'left' carries the role"),
        ({"hidden": {"left": 0}}, r"'hidden\.left' must be greater than 0"),
        ({"hidden": {}}, "key 'hidden' .*at least 1"),
        ({"hidden": [4, 4]}, "key 'hidden' .*valid integer"),
    ],
)
def test_refused_by_name(spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        bot_onnx.resize(save(two_towers(), tmp_path), spec, tmp_path / "out.onnx")

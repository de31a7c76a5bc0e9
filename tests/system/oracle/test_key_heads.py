"""Llama with one key and value head, by both exporters: with more heads it is what they write with as many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import bot_onnx
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.zoo.architectures import Size
from tests.zoo.export import cached_export

SINGLE = Size(layers=2, hidden=32, heads=4, head_dim=8, kv_heads=1, intermediate=64)


@pytest.mark.exporter
@pytest.mark.parametrize(
    ("kv_heads", "exporter"),
    [(2, "torchscript17"), (4, "torchscript17"), (4, "dynamo18"), pytest.param(2, "dynamo18", marks=pytest.mark.slow)],
)
def test_grown_from_one_equals_native(kv_heads: int, exporter: str, tmp_path: Path) -> None:
    source, out = cached_export("llama", SINGLE, exporter), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"kv_heads": kv_heads}, out)
    assert result.plan.promise.kept is True
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-5
    native = cached_export("llama", replace(SINGLE, kv_heads=kv_heads), exporter)
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-5

"""Every architecture, exporter and target: resized files compute what native exports of that size compute."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import bot_onnx
from tests.exports import AGAIN, marks, networks
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.zoo.architectures import ARCHITECTURES, TARGETS, Size, base_size
from tests.zoo.export import EXPORTERS, cached_export

pytestmark = pytest.mark.exporter
TOLERANCE = 1e-3


def spec_of(arch: str, size: Size) -> dict[str, Any]:
    """The spec that asks for ``size``."""
    keys = ["layers", "hidden", "heads", "head_dim", "intermediate"]
    if ARCHITECTURES[arch].grouped:
        keys.append("kv_heads")
    sizes = asdict(size)
    return {key: sizes[key] for key in keys}


def cells() -> list[Any]:
    """Every architecture, exporter and target; CI takes what is quick to export, half of the rest, and a diagonal."""
    every = {"torchscript17": 1, "dynamo18": 2, AGAIN: len(TARGETS)}
    return [
        pytest.param(arch, exporter, target, marks=marks(arch, exporter) if taken else [pytest.mark.slow])
        for place, arch in enumerate(ARCHITECTURES)
        for exporter in EXPORTERS
        for number, target in enumerate(TARGETS)
        for taken in [(number - place) % every[exporter] == 0]
    ]


@pytest.mark.parametrize(("arch", "exporter", "target"), cells())
def test_resized_equals_native(arch: str, exporter: str, target: str, tmp_path: Path) -> None:
    size = TARGETS[target](base_size(arch))
    out = tmp_path / "resized.onnx"
    result = bot_onnx.resize(cached_export(arch, base_size(arch), exporter), spec_of(arch, size), out)
    assert result.report.passed
    native = transplant(analysis_of(out), analysis_of(cached_export(arch, size, exporter)))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= TOLERANCE


@pytest.mark.parametrize(("arch", "exporter"), networks())
def test_identity_rebuild(arch: str, exporter: str, tmp_path: Path) -> None:
    source = cached_export(arch, base_size(arch), exporter)
    out = tmp_path / "same.onnx"
    result = bot_onnx.resize(source, {"layers": base_size(arch).layers}, out)
    assert not result.plan.constants
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-5


def test_the_oracle_sees_a_wrong_weight(tmp_path: Path) -> None:
    """One changed number in one tensor must show: the comparison is no tautology."""
    arch, exporter = "bert", "torchscript17"
    size = TARGETS["half"](base_size(arch))
    out = tmp_path / "resized.onnx"
    bot_onnx.resize(cached_export(arch, base_size(arch), exporter), spec_of(arch, size), out)
    native = transplant(analysis_of(out), analysis_of(cached_export(arch, size, exporter)))
    scale = next(t for t in native.graph.initializer if t.name.endswith("output.LayerNorm.weight"))
    raw = bytearray(scale.raw_data)
    raw[:4] = b"\x00\x00\x80\x41"  # 16.0
    scale.raw_data = bytes(raw)
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) > TOLERANCE

"""Files that an optimiser has fused resize to what a native export of that size computes, optimised the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import bot_onnx
from tests.forms import eager_bert, ops_of, optimised_by_runtime, optimised_by_tool
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.zoo.architectures import Size, base_size, half
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter
Make = Callable[[Size, Path], Path]


def by_runtime(arch: str, exporter: str) -> Make:
    def make(size: Size, path: Path) -> Path:
        optimised_by_runtime(cached_export(arch, size, exporter), path)
        return path

    return make


def by_tool(arch: str, exporter: str) -> Make:
    def make(size: Size, path: Path) -> Path:
        optimised_by_tool(cached_export(arch, size, exporter), path, "bert" if arch == "bert" else "gpt2", size)
        return path

    return make


def eager(size: Size, path: Path) -> Path:
    optimised_by_tool(eager_bert(size), path, "bert", size)
    return path


CASES: dict[str, tuple[str, Make, set[str]]] = {
    "bert_runtime": ("bert", by_runtime("bert", "dynamo18"), {"FusedMatMul", "SkipLayerNormalization", "FusedGemm"}),
    "llama_runtime": (
        "llama",
        by_runtime("llama", "torchscript17"),
        {"SimplifiedLayerNormalization", "QuickGelu", "FusedMatMul"},
    ),
    "gpt2_tool": ("gpt2", by_tool("gpt2", "dynamo18"), {"SkipLayerNormalization", "FastGelu"}),
    "llama_tool": ("llama", by_tool("llama", "dynamo18"), {"SkipSimplifiedLayerNormalization"}),
    "bert_attention": ("bert", eager, {"Attention", "EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu"}),
}


@pytest.mark.parametrize("case", CASES)
def test_resized_equals_native(case: str, tmp_path: Path) -> None:
    arch, make, fused = CASES[case]
    base = base_size(arch)
    source = make(base, tmp_path / "source.onnx")
    assert fused <= ops_of(source), "the optimiser has not fused what this case is about"
    same, small = tmp_path / "same.onnx", tmp_path / "small.onnx"
    assert bot_onnx.resize(source, {"layers": base.layers}, same).plan.layers[0].source == base.layers
    assert distance(run_at_two_sizes(same), run_at_two_sizes(source)) <= 1e-5
    wanted = half(base)
    spec = {"layers": wanted.layers, "hidden": wanted.hidden, "heads": wanted.heads}
    bot_onnx.resize(source, spec, small)
    native = transplant(analysis_of(small), analysis_of(make(wanted, tmp_path / "native.onnx")))
    assert distance(run_at_two_sizes(small), run_at_two_sizes(native)) <= 1e-5

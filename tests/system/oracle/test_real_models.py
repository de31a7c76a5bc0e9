"""Trained files: what a resize does to them, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.exports import AGAIN
from tests.system.oracle.compare import distance, run_at_two_sizes
from tests.zoo import real
from tests.zoo.export import EXPORTERS

SMALL = {"layers": 2, "hidden": 192, "heads": 6}
LARGE = {"layers": 6, "hidden": 768, "heads": 24}


def sentences(path: Path) -> list[NDArray[np.generic]]:
    """Float outputs on fixed token ids."""
    rng = np.random.default_rng(3)
    feeds = {"input_ids": rng.integers(999, 30000, (4, 12)), "attention_mask": np.ones((4, 12), np.int64)}
    runner = session(str(path))
    if any(port.name == "token_type_ids" for port in runner.get_inputs()):
        feeds["token_type_ids"] = np.zeros((4, 12), np.int64)
    return [out for out in runner.run(None, feeds) if out.dtype == np.float32]


def test_minilm_l3_structure() -> None:
    """Anonymous weights and deduplicated constants, as a real exporter left them."""
    structure = bot_onnx.inspect(real.minilm_l3()).structure
    assert [(chain.count, chain.period) for chain in structure.chains] == [(3, 4)]
    assert structure.residual == "post-norm"
    sizes = {dim.role: dim.size for dim in structure.dims.values() if dim.frozen is None}
    assert {k: sizes[k] for k in ("vocab", "hidden", "positions", "heads", "head_dim", "intermediate")} == {
        "vocab": 30522,
        "hidden": 384,
        "positions": 512,
        "heads": 12,
        "head_dim": 32,
        "intermediate": 1536,
    }


@pytest.mark.thorough
@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
def test_minilm_l3_resized(spec: dict[str, int], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(real.minilm_l3(), spec, out)
    assert result.report.passed
    sizes = {dim.role: dim.size for dim in bot_onnx.inspect(out).structure.dims.values()}
    assert (sizes["hidden"], sizes["heads"], sizes["head_dim"]) == (spec["hidden"], spec["heads"], 32)
    assert result.report.layers == {"encoder": spec["layers"]}


@pytest.mark.thorough
@pytest.mark.parametrize("spec", [{"hidden": 768}, LARGE], ids=["width", "width and depth"])
def test_growing_keeps_the_function(spec: dict[str, int], tmp_path: Path) -> None:
    out = tmp_path / "large.onnx"
    bot_onnx.resize(real.minilm_l3(), spec, out, options={"convention": "value", "wavelet": "haar"})
    for before, after in zip(sentences(real.minilm_l3()), sentences(out), strict=True):
        assert np.abs(np.repeat(before, 2, axis=-1) - after).max() <= 1e-4


@pytest.mark.thorough
@pytest.mark.exporter
@pytest.mark.parametrize("exporter", [pytest.param(e, marks=[pytest.mark.slow] * (e == AGAIN)) for e in EXPORTERS])
def test_minilm_l6(exporter: str, tmp_path: Path) -> None:
    """Exported from its safetensors: identity, growth that keeps the function, a half that runs."""
    source = real.minilm_l6(exporter)
    same, large, small = (tmp_path / f"{name}.onnx" for name in ("same", "large", "small"))
    bot_onnx.resize(source, {"layers": 6}, same)
    assert distance(run_at_two_sizes(same), run_at_two_sizes(source)) <= 1e-5
    bot_onnx.resize(source, {"layers": 8, "hidden": 768}, large)
    for before, after in zip(sentences(source), sentences(large), strict=True):
        assert np.abs(np.repeat(before, 2, axis=-1) - after).max() <= 1e-4
    report = bot_onnx.resize(source, {"layers": 3, "hidden": 192}, small).report
    assert report.passed and report.layers == {"encoder": 3}

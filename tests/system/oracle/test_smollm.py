"""SmolLM2-135M, weights beside the model: every method in its direction, exact growth in depth, bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

import bot_onnx
from benchmarks.whole_command import run_once
from bot_onnx._resample.registry import all_methods, get_method
from bot_onnx.api import verify
from bot_onnx.errors import ResampleError
from tests.smollm import EXPORTERS, smollm2
from tests.zoo.real import MissingModelError

pytestmark = [pytest.mark.slow, pytest.mark.exporter, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SMALL = {"layers": 15, "hidden": 384, "heads": 6, "kv_heads": 2}
LARGE = {"layers": 40, "hidden": 768, "heads": 12, "kv_heads": 4}
#: What follows from the two above: the ratio of 1536 to 576.
INTERMEDIATE = {384: 1024, 768: 2048}
VOCAB, HEAD_DIM = 49152, 64
DEPTH_ONLY = ("interleave", "stack")
PEAK_BYTES = 600e6


@pytest.fixture(scope="module", params=EXPORTERS)
def source(request: pytest.FixtureRequest) -> Path:
    try:
        return smollm2(request.param)
    except MissingModelError as error:
        pytest.skip(str(error))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A path whose files, up to 1.2 GB, go at the end of each test."""
    path = tmp_path / "out.onnx"
    yield path
    for file in (path, *tmp_path.glob("out.onnx.*.data")):
        file.unlink(missing_ok=True)


def logits(path: Path) -> list[NDArray[np.float32]]:
    """Logits at two input sizes, from a session as users open it."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    results = []
    for shape in ((1, 5), (2, 9)):
        ids = rng.integers(0, VOCAB, shape)
        results.append(session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0])
    return results


def check(result: bot_onnx.Result, spec: dict[str, int], out: Path) -> None:
    assert result.report.passed
    assert result.report.layers == {"layers": spec["layers"]}
    assert result.plan.external and len(list(out.parent.glob("out.onnx.*.data"))) == 1
    sizes = {dim.role: dim.size for dim in bot_onnx.inspect(out).structure.dims.values()}
    wanted = {role: spec[role] for role in ("hidden", "heads", "kv_heads")}
    wanted |= {"head_dim": HEAD_DIM, "intermediate": INTERMEDIATE[spec["hidden"]], "vocab": VOCAB}
    assert {role: sizes[role] for role in wanted} == wanted


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", [name for name in all_methods() if name not in DEPTH_ONLY])
def test_every_method(name: str, spec: dict[str, int], source: Path, out: Path) -> None:
    able = get_method(name).direction in ("both", "shrink" if spec is SMALL else "grow")
    if not able:
        with pytest.raises(ResampleError, match=f"method '{name}' can only"):
            bot_onnx.resize(source, spec, out, method=name)
        assert not out.exists()
        return
    if "torchscript" in source.name and name not in ("bot", "scratch"):
        pytest.skip("the weights are those of the other exporter; two methods cover the graph")
    check(bot_onnx.resize(source, spec, out, method=name), spec, out)
    for result in logits(out):
        assert result.shape[-1] == VOCAB and np.isfinite(result).all() and result.std() > 0


@pytest.mark.parametrize("name", DEPTH_ONLY)
def test_methods_of_depth(name: str, source: Path, out: Path) -> None:
    with pytest.raises(ResampleError, match="changes the depth only"):
        bot_onnx.resize(source, LARGE, out, method=name)
    result = bot_onnx.resize(source, {"layers": 60}, out, method=name)
    assert result.report.passed and result.report.layers == {"layers": 60}


def test_identity_depth_keeps_the_function(source: Path, out: Path) -> None:
    result = bot_onnx.resize(source, {"layers": 33}, out)
    assert result.report.layers == {"layers": 33}
    for before, after in zip(logits(source), logits(out), strict=True):
        assert np.abs(before - after).max() <= 1e-4 * np.abs(before).max()


@pytest.mark.skipif(sys.platform != "linux", reason="a map's pages are counted differently elsewhere")
@pytest.mark.parametrize("extra", [(), ("--no-compare",)], ids=["compared", "alone"])
def test_command_and_its_memory(extra: tuple[str, ...], source: Path, out: Path) -> None:
    sizes = [f"--{key.replace('_', '-')}={size}" for key, size in SMALL.items()]
    command = [sys.executable, "-m", "bot_onnx", "resize", str(source), *sizes, "-o", str(out), *extra]
    run = run_once(command)
    assert verify(out, spec=SMALL).passed
    assert run.peak_bytes <= PEAK_BYTES

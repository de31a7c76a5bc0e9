"""A published recurrent network in six spellings: LSTM cells inside nested branches, written out, and plain.

Needs the files of ``pip install --no-deps silero-vad==6.2.3`` (its code is not imported).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.system.oracle.compare import analysis_of

pytestmark = pytest.mark.slow

FILES = (
    "silero_vad", "silero_vad_16k_op15", "silero_vad_16k_sequence", "silero_vad_half", "silero_vad_op18_ifless",
    "silero_vad_openvino_16k",
)  # fmt: skip
#: Sample rate and length of a chunk with its context: each takes another branch, where a file has both.
RATES = ((16000, 576), (8000, 288))


def published(name: str) -> Path:
    """Path of a file of the package, or a skipped test."""
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        pytest.skip("silero-vad is not installed")
    return Path(spec.origin).parent / "data" / f"{name}.onnx"


def probability(path: Path, rate: int, length: int) -> np.ndarray:
    """Speech probability of two chunks of noise (as many as the file takes), from a state of zeros."""
    runner = session(str(path))
    feeds: dict[str, np.ndarray] = {}
    for port in runner.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 2 for size in port.shape]
        if port.name == "input":
            shape[-1] = length
            feeds["input"] = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        elif port.name == "sr":
            feeds["sr"] = np.array(rate, np.int64)
        else:
            feeds[port.name] = np.zeros(shape, np.float32)
    result: np.ndarray = runner.run(None, feeds)[0]
    return result


@pytest.mark.parametrize("name", FILES)
def test_growing_keeps_what_it_hears(name: str, tmp_path: Path) -> None:
    source, out = published(name), tmp_path / "out.onnx"
    dims = analysis_of(source).structure.dims.values()
    free = [d for d in dims if d.kind == "leaf" and d.frozen is None and d.size in (64, 128) and d.role != "count"]
    bot_onnx.resize(source, {"dims": {d.name: 2 * d.size for d in free}}, out)
    both = {"silero_vad", "silero_vad_op18_ifless"}
    for rate, length in RATES if name in both else RATES[:1]:
        before, after = probability(source, rate, length), probability(out, rate, length)
        assert float(np.abs(before - after).max()) <= 1e-5


@pytest.mark.parametrize("name", FILES)
def test_shrinking_passes_its_checks(name: str, tmp_path: Path) -> None:
    assert bot_onnx.resize(published(name), {"width": 0.5}, tmp_path / "out.onnx").report.passed

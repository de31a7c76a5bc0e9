"""Every method on a trained sentence encoder, in the directions it has: onnxruntime runs, outputs are finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bot_onnx
from bot_onnx._resample import all_methods
from bot_onnx._runs.runtime import session
from tests.zoo.real import MissingModelError, minilm_l3

SMALLER = {"hidden": 192, "layers": 2}
LARGER = {"intermediate": 3072, "layers": 4}
DEEPER = {"layers": 4}
SLOW = pytest.mark.slow
CASES = [
    pytest.param("bert2bert", {}, LARGER),
    pytest.param("bot", {"preset": "paper"}, SMALLER, marks=SLOW),
    pytest.param("bot", {"details": "in-band"}, LARGER),
    pytest.param("front", {}, SMALLER),
    pytest.param("front", {"depth": "random"}, LARGER, marks=SLOW),
    pytest.param("interleave", {}, DEEPER),
    pytest.param("net2net", {}, LARGER),
    pytest.param("scratch", {}, SMALLER),
    pytest.param("stack", {}, DEEPER),
    pytest.param("ws", {}, SMALLER),
]
#: These compute what the source does.
EXACT = {"net2net", "bot in-band"}


@pytest.fixture(scope="module")
def source() -> Path:
    try:
        return minilm_l3()
    except MissingModelError as error:
        pytest.skip(str(error))


def test_no_method_is_left_out() -> None:
    assert {case.values[0] for case in CASES} == set(all_methods())


@pytest.mark.thorough
@pytest.mark.parametrize(("method", "options", "spec"), CASES)
def test_a_trained_encoder_is_resized(
    method: str, options: dict[str, Any], spec: dict[str, int], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.onnx"
    bot_onnx.resize(source, spec, target, method=method, options=options, device="cpu", against=False)
    tokens = np.array([[101, 2023, 2003, 1037, 3231, 102]])
    values = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    after = session(target.read_bytes()).run(None, values)[2]
    assert after.shape == (1, 6, spec.get("hidden", 384))
    assert np.isfinite(after).all()
    assert after.std() > 0.01
    before = session(source.read_bytes()).run(None, values)[2]
    if " ".join([method, *options.values()]) in EXACT:
        np.testing.assert_allclose(after, before, atol=1e-4)

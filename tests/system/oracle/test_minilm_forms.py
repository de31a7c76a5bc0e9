"""A trained sentence encoder in every form that its file may come in: down and up, verified, and close to itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import bot_onnx
from tests.forms import (
    blocks_4bit,
    dynamic_int8,
    external_data,
    half_precision,
    optimised_by_runtime,
    static_int8,
    stored_as,
)
from tests.zoo import real

pytestmark = [pytest.mark.exporter, pytest.mark.slow]

#: Form -> how it is made, and the least cosine of the outputs of the grown file with the source's.
FORMS: dict[str, tuple[Callable[[Path, Path], None], float]] = {
    "half": (half_precision, 0.999),
    "mixed": (partial(stored_as, how="float16"), 0.999),
    "external": (external_data, 0.9999),
    "optimised": (optimised_by_runtime, 0.9999),
    "dynamic": (dynamic_int8, 0.98),
    "pairs": (partial(static_int8, per_channel=True), 0.9),
    "blocks": (blocks_4bit, 0.9999),
}


@pytest.mark.parametrize("exporter", ["torchscript17", "dynamo18"])
@pytest.mark.parametrize("form", FORMS)
def test_down_and_up(form: str, exporter: str, tmp_path: Path) -> None:
    make, least = FORMS[form]
    source = tmp_path / "source.onnx"
    make(real.minilm_l6(exporter), source)
    small = bot_onnx.resize(source, {"layers": 3, "hidden": 192}, tmp_path / "small.onnx")
    assert small.report.passed and small.report.layers == {"encoder": 3}
    large = bot_onnx.resize(source, {"hidden": 768}, tmp_path / "large.onnx")
    assert large.report.passed
    assert min(entry.cosine for entry in large.report.comparisons if entry.cosine is not None) >= least

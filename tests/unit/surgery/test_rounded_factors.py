"""Factors that follow a size and were rounded to half precision by whoever wrote the source are rounded anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx._patterns.closed_forms import factor_alike, match_scale
from tests.graphs import GraphBuilder, save

#: √24, √48, √12 and so on, as bfloat16 and float16 have them: by definition the nearest number of 8 and of 11 bits.
BFLOAT16 = {24: 4.90625, 48: 6.9375, 12: 3.46875}
FLOAT16 = {24: 4.8984375, 48: 6.9296875, 12: 3.46484375}
FLOAT32 = {24: 24**0.5, 48: 48**0.5, 12: 12**0.5}


@pytest.mark.parametrize("roots", [BFLOAT16, FLOAT16, FLOAT32])
@pytest.mark.parametrize("target", [12, 48])
def test_the_type_of_the_source_is_kept(roots: dict[int, float], target: int) -> None:
    assert match_scale(float(np.float32(roots[24])), 24) == "sqrt(n)"
    assert np.isclose(factor_alike("sqrt(n)", float(np.float32(roots[24])), 24, target), roots[target], rtol=1e-7)


def test_what_half_precision_can_say_exactly_tells_nothing() -> None:
    assert factor_alike("sqrt(n)", 4.0, 16, 48) == 48**0.5


def scaled(factor: float) -> onnx.ModelProto:
    """Embeddings times a factor, three layers with a norm each."""
    b = GraphBuilder()
    x = b.op("Mul", b.op("Gather", b.weight(11, 24), "ids"), b.constant(np.float32(factor), "factor"))
    for _ in range(3):
        normed = b.op("LayerNormalization", x, b.weight(24), b.weight(24), axis=-1)
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", normed, b.weight(24, 36))), b.weight(36, 24)))
    b.op("MatMul", b.op("LayerNormalization", x, b.weight(24), b.weight(24), axis=-1), b.weight(24, 3))
    return b.model([("ids", ["batch", 4])], [b.nodes[-1].output[0]], integer_inputs=("ids",), rank=3)


@pytest.mark.parametrize("roots", [BFLOAT16, FLOAT16, FLOAT32])
@pytest.mark.parametrize("hidden", [12, 48])
def test_the_embeddings_make_up_for_what_is_written(roots: dict[int, float], hidden: int, tmp_path: Path) -> None:
    """The rounded root is the native network's; the function is kept where it grows: the table takes its share."""
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(save(scaled(roots[24]), tmp_path), {"hidden": hidden}, out)
    assert result.report.passed and result.plan.promise.kept is (hidden == 48)
    (factor,) = [held for held in onnx.load(out).graph.initializer if held.name.startswith("factor")]
    assert numpy_helper.to_array(factor) == np.float32(roots[hidden])

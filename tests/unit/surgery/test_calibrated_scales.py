"""A static quantisation made again: calibrated scales stay where they hold, weights get new ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantType

import bot_onnx
from tests.unit.canonical.test_saturation import convolutions, quantised, run


def activation_scales(path: Path) -> list[float]:
    """Scales by which activations are rounded, in graph order."""
    graph = onnx.load(path).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    slots = {
        "QuantizeLinear": 1,
        "QLinearConv": 6,
        "QLinearAdd": 6,
        "QLinearMul": 6,
        "QLinearGlobalAveragePool": 3,
        "QGemm": 7,
    }
    return [
        float(held[node.input[slots[node.op_type]]].reshape(-1)[0])
        for node in graph.node
        if node.op_type in slots and node.input[0] not in held
    ]


def packed_weights(path: Path) -> dict[str, tuple[int, ...]]:
    graph = onnx.load(path).graph
    return {
        t.name: tuple(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1
    }


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_growth_by_copies_keeps_every_scale(form: str, per_channel: bool, tmp_path: Path) -> None:
    source = quantised(convolutions(gain=0.5), tmp_path, form, QuantType.QUInt8, per_channel=per_channel)
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"width": 2.0}, out, requantize=True)
    before, after = set(activation_scales(source)), set(activation_scales(out))
    assert after and after <= before
    assert any("stay as they were calibrated" in n and "dropped" not in n for n in result.plan.notes)
    assert sorted(packed_weights(out).values()) == [(5, 24), (24, 3, 3, 3), (24, 24, 3, 3), (24, 24, 3, 3)]
    expected = run(tmp_path / "plain.onnx")
    np.testing.assert_allclose(run(out), expected, atol=0.06 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_shrinks_loses_its_scales_and_the_plan_says_so(form: str, tmp_path: Path) -> None:
    source = quantised(convolutions(gain=0.5), tmp_path, form, QuantType.QInt8)
    out, plain = tmp_path / "out.onnx", tmp_path / "floats.onnx"
    result = bot_onnx.resize(source, {"width": 0.5}, out, requantize=True)
    bot_onnx.resize(source, {"width": 0.5}, plain)
    before, after = activation_scales(source), activation_scales(out)
    assert after[0] == before[0] and after[-1] == before[-1]  # the input's and the output's
    assert len(after) == 3  # and that of the input behind its factor
    (note,) = (n for n in result.plan.notes if n.startswith("Activation scales"))
    assert "3 stay" in note and "are dropped" in note
    assert sorted(packed_weights(out).values()) == [(5, 6), (6, 3, 3, 3), (6, 6, 3, 3), (6, 6, 3, 3)]
    expected = run(plain)
    np.testing.assert_allclose(run(out), expected, atol=0.06 * np.abs(expected).max())


def test_only_what_was_quantised_is(tmp_path: Path) -> None:
    """A convolution that the source computes in floating point stays so."""
    model = convolutions(gain=0.5)
    left = model.graph.node[3].input[1]
    source = quantised(model, tmp_path, "QDQ", QuantType.QUInt8, per_channel=True, left_out=[model.graph.node[3].name])
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"width": 2.0}, out, requantize=True)
    assert len(packed_weights(out)) == len(packed_weights(source)) == 3
    assert left in {tensor.name for tensor in onnx.load(out).graph.initializer}

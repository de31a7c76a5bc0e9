"""Activations that a static quantiser left to the rounding come back with the floats."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder

SHAPE = (2, 3, 8, 8)


def samples(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.rest = iter([samples(seed) for seed in range(8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


def convolutions(activation: str = "Relu", hidden: int = 12, gain: float = 1.0) -> onnx.ModelProto:
    """A residual network of convolutions and a head."""
    b = GraphBuilder()

    def activate(x: str) -> str:
        if activation == "Clip":
            return b.op("Clip", x, *(b.constant(np.array(end, np.float32)) for end in (0, 6)))
        return b.op(activation, x)

    scaled = b.op("Mul", "x", b.constant(np.array(gain, np.float32)))
    x = activate(b.op("Conv", scaled, b.weight(hidden, 3, 3, 3), b.weight(hidden), pads=[1] * 4))
    for _ in range(2):
        x = b.op("Add", x, activate(b.op("Conv", x, b.weight(hidden, hidden, 3, 3), b.weight(hidden), pads=[1] * 4)))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.model([("x", ["n", 3, 8, 8])], [b.op("Gemm", pooled, b.weight(5, hidden), b.weight(5), transB=1)])


def quantised(
    model: onnx.ModelProto,
    folder: Path,
    form: str,
    kind: QuantType,
    *,
    per_channel: bool = False,
    left_out: Sequence[str] = (),
) -> Path:
    """A static quantisation of ``model``, calibrated on eight samples."""
    plain, path = folder / "plain.onnx", folder / "quantised.onnx"
    onnx.save(model, plain)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            plain,
            path,
            Reader(),
            quant_format=QuantFormat[form],
            per_channel=per_channel,
            activation_type=kind,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(left_out),
        )
    finally:
        logging.disable(level)
    return path


def run(path: Path, seed: int = 3) -> np.ndarray:
    result: np.ndarray = session(str(path)).run(None, samples(seed))[0]
    return result


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8], ids=lambda kind: kind.name)
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("activation", "gain"), [("Relu", 1.0), ("Clip", 9.0)])
def test_what_the_quantiser_left_out(activation: str, gain: float, form: str, kind: QuantType, tmp_path: Path) -> None:
    source = quantised(convolutions(activation, gain=gain), tmp_path, form, kind)
    assert not any(node.op_type == activation for node in onnx.load(source).graph.node)
    grown = tmp_path / "grown.onnx"
    result = bot_onnx.resize(source, {"width": 2.0}, grown)
    assert result.report.passed and not any("WARNING" in note for note in result.plan.notes)
    expected = run(tmp_path / "plain.onnx")
    np.testing.assert_allclose(run(grown), expected, atol=0.03 * np.abs(expected).max())
    assert sum(node.op_type == activation for node in onnx.load(grown).graph.node) == 3


def test_ranges_with_negative_numbers_get_nothing(tmp_path: Path) -> None:
    source = quantised(convolutions("LeakyRelu"), tmp_path, "QDQ", QuantType.QUInt8)
    bot_onnx.resize(source, {"width": 2.0}, tmp_path / "grown.onnx")
    graph = onnx.load(tmp_path / "grown.onnx").graph
    leaky = {node.output[0] for node in graph.node if node.op_type == "LeakyRelu"}
    assert len(leaky) == 3
    assert not any(node.op_type == "Relu" and node.input[0] in leaky for node in graph.node)
    expected = run(tmp_path / "plain.onnx")
    np.testing.assert_allclose(run(tmp_path / "grown.onnx"), expected, atol=0.03 * np.abs(expected).max())

"""Norms without weights: an exporter writes ones for them, as initializers or as constants, and ones they stay.

No module has a place for a gain there. What a turn of the stream asks of a norm goes into the weights that read it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import bot_onnx
from tests.graphs import GraphBuilder, save

HIDDEN, SEEN = 16, 7
Floats = NDArray[np.float32]


def _held(b: GraphBuilder, values: Floats, how: str) -> str:
    """Numbers as an initializer, or as a constant among the nodes."""
    if how == "initializer":
        return b.constant(values)
    name = f"held{len(b.nodes)}"
    b.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, name)))
    return name


def _images(how: str) -> onnx.ModelProto:
    """Two convolutions with an instance norm after each."""
    b = GraphBuilder()
    x, channels = "x", 3
    for width in (8, 16):
        x = b.op("Conv", x, b.weight(width, channels, 1, 1))
        ones, zeros = _held(b, np.ones(width, np.float32), how), _held(b, np.zeros(width, np.float32), how)
        x, channels = b.op("Relu", b.op("InstanceNormalization", x, ones, zeros)), width
    return b.model([("x", ["batch", 3, 4, 4])], [b.op("Conv", x, b.weight(4, channels, 1, 1))], rank=4)


def _sequences(how: str, scale: float = 1.0) -> onnx.ModelProto:
    """A pre-norm stream, read and written along 7 of its directions alone: a turn to 8 channels loses nothing."""
    b, rng = GraphBuilder(), np.random.default_rng(0)
    basis, _ = np.linalg.qr(np.concatenate([np.ones((HIDDEN, 1)), rng.standard_normal((HIDDEN, SEEN))], axis=1))

    def seen(*shape: int) -> Floats:
        return (rng.standard_normal((*shape, SEEN)) @ basis[:, 1:].T).astype(np.float32)

    def normed(x: str) -> str:
        return b.op("LayerNormalization", x, _held(b, np.full(HIDDEN, scale, np.float32), how))

    x = b.op("Gather", b.constant(seen(20)), "ids")
    for _ in range(2):
        inner = b.op("Relu", b.op("MatMul", normed(x), b.constant(np.ascontiguousarray(seen(32).T))))
        x = b.op("Add", x, b.op("MatMul", inner, b.constant(seen(32))))
    head = b.op("MatMul", normed(x), b.constant(np.ascontiguousarray(seen(7).T)))
    return b.model([("ids", ["batch", "sequence"])], [head], integer_inputs=["ids"], rank=3)


def _scales(path: Path) -> list[float]:
    """All numbers in the scales of the norms."""
    graph = onnx.load(path).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    held |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    norms = [node for node in graph.node if node.op_type.endswith("Normalization")]
    assert norms
    return [float(number) for node in norms for number in held[node.input[1]]]


def _logits(path: Path) -> Floats:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ids": np.arange(12).reshape(2, 6)})
    return np.asarray(found)


@pytest.mark.parametrize("how", ["initializer", "constant"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_ones_stay_ones(how: str, factor: float, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    bot_onnx.resize(save(_images(how), tmp_path), {"width": factor}, out)
    assert set(_scales(out)) == {1.0}


@pytest.mark.parametrize("how", ["initializer", "constant"])
def test_where_the_stream_is_turned_readers_take_the_gain(how: str, tmp_path: Path) -> None:
    source, out = save(_sequences(how), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"hidden": 8, "intermediate": 32}, out)
    assert result.plan.align == "rotate" and set(_scales(out)) == {1.0}
    wanted = _logits(source)
    assert np.abs(_logits(out) - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_scales_that_were_trained_take_it_themselves(tmp_path: Path) -> None:
    source, out = save(_sequences("initializer", 1.5), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"hidden": 8, "intermediate": 32}, out)
    assert np.allclose(_scales(out), np.sqrt(2))
    wanted = _logits(source)
    assert np.abs(_logits(out) - wanted).max() < 1e-4 * np.abs(wanted).max()

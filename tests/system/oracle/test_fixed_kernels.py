"""Filters that somebody chose (a blur before a pool, the taps of an unfold, wavelets), one block for every channel.

At another width they are what the same network has at that width: the block as often as there are channels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

BLUR = (np.outer([1, 2, 1], [1, 2, 1]) / 16).astype(np.float32)[None, None]
TAPS = np.eye(9, dtype=np.float32).reshape(9, 1, 3, 3)
HAAR = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], np.float32).reshape(4, 1, 2, 2) / 2


def _filter(b: GraphBuilder, kind: str, x: str, block: np.ndarray, channels: int, **attributes: object) -> str:
    kernel = b.constant(np.tile(block, (channels, 1, 1, 1)))
    return b.op(kind, x, kernel, group=channels, kernel_shape=list(block.shape[2:]), **attributes)


def _blurred(b: GraphBuilder, x: str, channels: int) -> tuple[str, int]:
    return _filter(b, "Conv", x, BLUR, channels, strides=[2, 2], pads=[1, 1, 1, 1]), channels


def _unfolded(b: GraphBuilder, x: str, channels: int) -> tuple[str, int]:
    return _filter(b, "Conv", x, TAPS, channels, pads=[1, 1, 1, 1]), 9 * channels


def _wavelets(b: GraphBuilder, x: str, channels: int) -> tuple[str, int]:
    bands = _filter(b, "Conv", x, HAAR, channels, strides=[2, 2])
    mixed = b.op("Relu", b.op("Conv", bands, b.weight(4 * channels, 4 * channels, 1, 1)))
    return _filter(b, "ConvTranspose", mixed, HAAR, channels, strides=[2, 2]), channels


Part = Callable[[GraphBuilder, str, int], tuple[str, int]]


def _network(part: Part, channels: int) -> onnx.ModelProto:
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(channels, 3, 1, 1)))
    y, width = part(b, x, channels)
    out = b.op("Conv", b.op("Relu", y), b.weight(4, width, 1, 1))
    return b.model([("x", ["batch", 3, 8, 8])], [out], rank=4)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("part", [_blurred, _unfolded, _wavelets])
def test_width_equals_native(part: Part, factor: float, tmp_path: Path) -> None:
    source, out = save(_network(part, 8), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"width": factor}, out)
    assert result.plan.promise.kept == (factor > 1)
    native = save(_network(part, int(8 * factor)), tmp_path, "native.onnx")
    assert _fixed(out) == _fixed(native)
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-4


def _fixed(path: Path) -> list[bytes]:
    """Contents of the kernels of grouped convolutions."""
    graph = onnx.load(path).graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer}
    grouped = [node for node in graph.node if any(a.name == "group" and a.i > 1 for a in node.attribute)]
    return [held[node.input[1]] for node in grouped]

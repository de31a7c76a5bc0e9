"""Axes of graph inputs: what is joined to the network from outside stays as the world has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save

HIDDEN, HALF, TOKENS = 8, 4, 5


def styled_model(cut: str, layers: int = 3, hidden: int = HIDDEN) -> onnx.ModelProto:
    """Layers that are given a style beside the tokens: half of an input, whose other half the head reads, or all."""
    b = GraphBuilder()
    style, other = _cut(b, cut)
    x = b.op("MatMul", "tokens", b.weight(3, hidden))
    shape = b.op("Concat", b.op("Shape", x, start=0, end=2), b.ints(HALF), axis=0)
    beside = b.op("Expand", b.op("Unsqueeze", style, b.ints(1)), shape)
    x = b.op("Concat", x, beside, axis=-1)
    for _ in range(layers):
        inner = b.op("Relu", b.op("MatMul", x, b.weight(hidden + HALF, hidden)))
        x = b.op("Concat", b.op("MatMul", inner, b.weight(hidden, hidden)), beside, axis=-1)
    told = b.op("Unsqueeze", b.op("MatMul", other, b.weight(HALF, hidden + HALF)), b.ints(1))
    result = b.op("MatMul", b.op("Add", x, told), b.weight(hidden + HALF, 2))
    width = HALF if cut == "whole" else 2 * HALF
    return b.model([("tokens", ["batch", "time", 3]), ("style", ["batch", width])], [result], rank=3)


def _cut(b: GraphBuilder, cut: str) -> tuple[str, str]:
    if cut == "whole":
        return "style", "style"
    if cut == "split":
        first = b.op("Split", "style", b.ints(HALF, HALF), outputs=2, axis=1)
        return str(b.nodes[-1].output[1]), first
    ends = [(HALF, 2 * HALF), (0, HALF)]
    first, second = (b.op("Slice", "style", b.ints(start), b.ints(end), b.ints(1)) for start, end in ends)
    return first, second


def outputs(path: Path) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    runner = session(str(path))
    shapes = {"tokens": (2, TOKENS, 3), "style": (2, runner.get_inputs()[1].shape[1])}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    result: np.ndarray[Any, Any] = runner.run(None, feeds)[0]
    return result


@pytest.mark.parametrize("cut", ["split", "slice", "whole"])
def test_a_style_beside_the_stream_keeps_its_size(cut: str, tmp_path: Path) -> None:
    source = save(styled_model(cut), tmp_path)
    before = outputs(source)
    for width in (0.5, 2.0):
        out = tmp_path / f"{width}.onnx"
        plan = bot_onnx.resize(source, {"width": width}, out).plan
        assert plan.parameters[1] != plan.parameters[0]
        assert plan.promise.kept is (width > 1)
        assert session(str(out)).get_inputs()[1].shape == session(str(source)).get_inputs()[1].shape
        after = outputs(out)
        assert after.shape == before.shape
        assert width < 1 or np.abs(after - before).max() < 1e-5 * np.abs(before).max()


def test_a_stream_that_an_input_gives_follows_hidden(tmp_path: Path) -> None:
    """Embeddings instead of tokens, with coordinates beside them that are none."""
    b = GraphBuilder()
    embedded = b.op("Slice", "given", b.ints(0), b.ints(HIDDEN), b.ints(2))
    places = b.op("Slice", "given", b.ints(HIDDEN), b.ints(HIDDEN + 2), b.ints(2))
    x = b.op("Add", embedded, b.op("MatMul", places, b.weight(2, HIDDEN)))
    for _ in range(3):
        inner = b.op("Relu", b.op("MatMul", x, b.weight(HIDDEN, 16)))
        x = b.op("Add", x, b.op("MatMul", inner, b.weight(16, HIDDEN)))
    model = b.model([("given", ["batch", "time", HIDDEN + 2])], [b.op("MatMul", x, b.weight(HIDDEN, 2))], rank=3)
    out = tmp_path / "out.onnx"
    bot_onnx.resize(save(model, tmp_path), {"hidden": 12}, out)
    assert session(str(out)).get_inputs()[0].shape == ["batch", "time", 14]


def test_a_squeeze_of_whatever_is_1_stays(tmp_path: Path) -> None:
    """At the sizes that the analysis runs at it changes nothing, at others it takes an axis."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("MatMul", b.op("Unsqueeze", "x", b.ints(2)), b.weight(1, 8)))
    last = b.op("Squeeze", b.op("MatMul", x, b.weight(8, 3)))
    source, out = save(b.model([("x", ["n", "bins"])], [last], rank=3), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"width": 2}, out)
    for shape in ((4, 1), (4, 5)):
        data = np.ones(shape, np.float32)
        before, after = (session(str(path)).run(None, {"x": data})[0] for path in (source, out))
        assert after.shape == before.shape

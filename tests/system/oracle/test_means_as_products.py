"""Means that an exporter wrote as a product with 1/n, and sums with ones, follow the size that they are taken over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx._reasons import Why
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.frozen import assert_frozen

Mean = Callable[[GraphBuilder, str, int], str]


def _full(b: GraphBuilder, *shape: int, value: float) -> str:
    return b.constant(np.full(shape, value, np.float32))


def _column(b: GraphBuilder, x: str, n: int) -> str:
    return b.op("MatMul", x, _full(b, n, 1, value=1 / n))


def _square(b: GraphBuilder, x: str, n: int) -> str:
    return b.op("MatMul", x, _full(b, n, n, value=1 / n))


def _turned(b: GraphBuilder, x: str, n: int) -> str:
    return b.op("Gemm", x, _full(b, 1, n, value=1 / n), transB=1)


def _sum(b: GraphBuilder, x: str, n: int) -> str:
    return b.op("Mul", b.op("MatMul", x, _full(b, n, 1, value=1)), b.constant(np.float32(1 / n)))


def _twice(b: GraphBuilder, x: str, n: int) -> str:
    return b.op("MatMul", x, _full(b, n, 1, value=2 / n))


def _network(mean: Mean, hidden: int) -> onnx.ModelProto:
    """Two linear maps with a layer norm between them, its means written as products."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, hidden))
    centred = b.op("Sub", x, mean(b, x, hidden))
    variance = mean(b, b.op("Mul", centred, centred), hidden)
    spread = b.op("Sqrt", b.op("Add", variance, b.constant(np.float32(1e-3))))
    scaled = b.op("Mul", b.op("Div", centred, spread), b.weight(hidden))
    return b.model([("x", ["batch", 6])], [b.op("MatMul", scaled, b.weight(hidden, 5))])


@pytest.mark.parametrize("hidden", [8, 24, 32])
@pytest.mark.parametrize("mean", [_column, _square, _turned, _sum])
def test_a_mean_is_one_over_its_size(mean: Mean, hidden: int, tmp_path: Path) -> None:
    source, out = save(_network(mean, 16), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"dims": {_dim_of(source): hidden}}, out)
    assert result.plan.promise.kept == (hidden == 32)
    native = save(_network(mean, hidden), tmp_path, "native.onnx")
    assert _uniform(out) == _uniform(native)
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-4


def test_a_number_that_nothing_explains_is_refused_by_name(tmp_path: Path) -> None:
    assert_frozen(save(_network(_twice, 16), tmp_path), 16, Why.NO_FORMULA, "follows no formula", asked=8)


def _dim_of(path: Path) -> str:
    return next(dim.name for dim in bot_onnx.inspect(path).structure.dims.values() if dim.size == 16)


def _uniform(path: Path) -> list[tuple[tuple[int, ...], float]]:
    """Shapes of the matrices of one number, with that number."""
    held = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return [(array.shape, float(array.flat[0])) for array in held if array.ndim == 2 and np.ptp(array) == 0]

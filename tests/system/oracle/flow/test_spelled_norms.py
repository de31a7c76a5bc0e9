"""Norms that exporters spell out in different orders are norms all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes

HIDDEN = 8
Norm = Callable[[GraphBuilder, str, str, str], str]


def centred(b: GraphBuilder, x: str) -> tuple[str, str]:
    """``x - mean`` and ``variance + epsilon``, the variance as E[x²] - E[x]², never below 0."""
    mean = b.op("ReduceMean", x, axes=[-1])
    square = b.op("Mul", mean, mean)
    variance = b.op("Sub", b.op("ReduceMean", b.op("Mul", x, x), axes=[-1]), square)
    variance = b.op("Max", variance, b.constant(np.float32(0)))
    return b.op("Sub", x, mean), b.op("Add", variance, b.constant(np.float32(1e-5)))


def divided(b: GraphBuilder, x: str, scale: str, shift: str) -> str:
    """``scale * ((x - mean) / std) + shift``."""
    middle, variance = centred(b, x)
    return b.op("Add", b.op("Mul", b.op("Div", middle, b.op("Sqrt", variance)), scale), shift)


def scaled_first(b: GraphBuilder, x: str, scale: str, shift: str) -> str:
    """``(x - mean) * (scale * (1 / std)) + shift``."""
    middle, variance = centred(b, x)
    factor = b.op("Mul", b.op("Reciprocal", b.op("Sqrt", variance)), scale)
    return b.op("Add", b.op("Mul", middle, factor), shift)


@pytest.mark.parametrize("norm", [divided, scaled_first])
def test_scale_and_shift_of_a_spelled_norm(norm: Norm, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    made = norm(b, x, b.weight(HIDDEN, name="scale"), b.weight(HIDDEN, name="shift"))
    gate = b.op("Mul", b.op("ReduceMean", made, axes=[-1]), b.weight(HIDDEN, name="gate"))
    model = b.model([("x", ["batch", 4])], [b.op("MatMul", b.op("Add", made, gate), b.weight(HIDDEN, 3))])
    kinds = {stack.tensors[0]: stack.kind for stack in analysis_of(save(model, tmp_path)).structure.stacks}
    assert (kinds["scale"], kinds["shift"], kinds["gate"]) == ("norm_scale", "norm_bias", "scale")


def pooled(b: GraphBuilder, x: str, scale: str, shift: str) -> str:
    """``x * (scale / std) + (shift - mean * (scale / std))``, means as global pools over the last axis."""
    mean = b.op("GlobalAveragePool", x)
    away = b.op("Sub", x, mean)
    variance = b.op("Add", b.op("GlobalAveragePool", b.op("Mul", away, away)), b.constant(np.float32(1e-5)))
    factor = b.op("Mul", b.op("Reciprocal", b.op("Sqrt", variance)), scale)
    return b.op("Add", b.op("Mul", x, factor), b.op("Add", b.op("Mul", b.op("Neg", mean), factor), shift))


def wrapped_ids(b: GraphBuilder, rows: int) -> str:
    """Token ids, negative ones counted from the end."""
    negative = b.op("Less", "ids", b.constant(np.int64(0)))
    return b.op("Where", negative, b.op("Add", "ids", b.constant(np.int64(rows))), "ids")


def test_means_as_global_pools_and_ids_that_wrap_around(tmp_path: Path) -> None:
    """A pool over the last axis of [batch, tokens, hidden] is a mean, and hidden no spatial size."""
    b = GraphBuilder()
    x = b.op("Gather", b.weight(11, HIDDEN, name="tokens"), wrapped_ids(b, 11))
    for _ in range(2):
        made = pooled(b, x, b.weight(HIDDEN), b.weight(HIDDEN))
        x = b.op(
            "Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", made, b.weight(HIDDEN, 12))), b.weight(12, HIDDEN))
        )
    last = b.op("MatMul", x, b.weight(HIDDEN, 3))
    source = save(b.model([("ids", ["batch", 7])], [last], integer_inputs=["ids"], rank=3), tmp_path)
    structure = analysis_of(source).structure
    roles = {dim.role: dim for dim in structure.dims.values()}
    assert (roles["vocab"].size, roles["hidden"].size, roles["hidden"].frozen) == (11, HIDDEN, None)
    kinds = [stack.kind for stack in structure.stacks if stack.shape == (HIDDEN,)]
    assert kinds == ["norm_scale", "norm_bias"]
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"hidden": 2 * HIDDEN, "layers": 3}, out).report.passed
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-5

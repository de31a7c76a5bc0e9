"""Norms that exporters spell out in different orders are norms all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.graphs import GraphBuilder, save
from tests.oracle.compare import analysis_of

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

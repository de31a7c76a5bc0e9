"""Outputs that hold probabilities of classes are told from logits, and from shares of something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._verify.outputs import OutputAxes, output_axes
from tests.graphs import GraphBuilder, save


def spelled_out(b: GraphBuilder, x: str) -> str:
    raised = b.op("Exp", x)
    return b.op("Div", raised, b.op("ReduceSum", raised, b.ints(-1), keepdims=1))


ENDS: dict[str, tuple[Callable[[GraphBuilder, str], str], bool, bool]] = {
    "Softmax": (lambda b, x: b.op("Softmax", x, axis=-1), False, True),
    "Softmax by default": (lambda b, x: b.op("Softmax", x), False, True),
    "Softmax, moved": (lambda b, x: b.op("Identity", b.op("Softmax", x, axis=1)), False, True),
    "LogSoftmax": (lambda b, x: b.op("LogSoftmax", x, axis=-1), True, False),
    "Exp of LogSoftmax": (lambda b, x: b.op("Exp", b.op("LogSoftmax", x, axis=-1)), False, True),
    "spelled out": (spelled_out, False, True),
    "Softmax over samples": (lambda b, x: b.op("Softmax", x, axis=0), False, False),
    "Sigmoid": (lambda b, x: b.op("Sigmoid", x), False, False),
    "nothing": (lambda b, x: x, True, False),
}


def described(b: GraphBuilder, output: str, folder: Path) -> OutputAxes:
    with open_model(save(b.model([("x", ["n", 4])], [output]), folder)) as source:
        return output_axes(analyse(source.model()))[output]


@pytest.mark.parametrize("end", ENDS)
def test_classes(end: str, tmp_path: Path) -> None:
    make, logits, chances = ENDS[end]
    b = GraphBuilder()
    hidden = b.op("Relu", b.op("Add", b.op("MatMul", "x", b.weight(4, 8)), b.weight(8)))
    x = b.op("Add", b.op("MatMul", hidden, b.weight(8, 3)), b.constant(np.zeros(3, np.float32)))
    found = described(b, make(b, x), tmp_path)
    assert (found.logits, found.chances) == (logits, chances)


def test_the_shares_of_an_attention_are_no_classes(tmp_path: Path) -> None:
    b = GraphBuilder()
    q, k = (b.op("MatMul", "x", b.weight(4, 8)) for _ in range(2))
    shares = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[1, 0])), axis=-1)
    assert not described(b, shares, tmp_path).chances

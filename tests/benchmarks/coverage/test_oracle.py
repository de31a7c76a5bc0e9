"""The oracle compares networks, not the ways in which exporters store their matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.coverage.oracle import analysis_of, distance, run_at_two_sizes, transplant, untrained_that_differ
from tests.graphs import GraphBuilder, save


def _network(turned: bool, seed: int) -> onnx.ModelProto:
    b = GraphBuilder(seed)
    x = "x"
    for _ in range(2):
        weight = b.weight(4, 4)
        x = b.op("Relu", b.op("MatMul", x, b.op("Transpose", weight, perm=[1, 0]) if turned else weight))
    b.op("MatMul", x, b.weight(4, 3))
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


def test_matrices_stored_the_other_way_round_are_turned(tmp_path: Path) -> None:
    ours = save(_network(False, 0), tmp_path, "ours.onnx")
    native = analysis_of(save(_network(True, 1), tmp_path, "native.onnx"))
    trained = np.sort(np.concatenate([numpy_helper.to_array(t).ravel() for t in _network(True, 1).graph.initializer]))
    assert untrained_that_differ(analysis_of(ours), native, trained) == {}
    assert distance(run_at_two_sizes(ours), run_at_two_sizes(transplant(analysis_of(ours), native))) <= 1e-6

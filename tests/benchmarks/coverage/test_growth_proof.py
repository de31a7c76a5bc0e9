"""The proof without a native target: states are fed as wide as the grown file takes them, logits compared as logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from benchmarks.coverage.judge import _repeated, _tiled
from benchmarks.coverage.oracle import run_at_two_sizes, unsquashed
from tests.graphs import GraphBuilder, save


def test_inputs_are_repeated_along_the_axes_that_grew() -> None:
    state = np.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(_repeated(state, ["batch", 2, 6]), np.concatenate([state, state], axis=2))
    assert _repeated(state, [1, "length", "width"]) is not state
    np.testing.assert_array_equal(_repeated(state, [1, "length", "width"]), state)


def test_logits_stand_in_for_probabilities(tmp_path: Path) -> None:
    b = GraphBuilder()
    logits = b.op("MatMul", "x", b.weight(4, 3))
    path = save(b.model([("x", ["batch", 4])], [b.op("Sigmoid", logits), b.op("Relu", logits)]), tmp_path)
    shown = unsquashed(path)
    assert [output.name for output in shown.graph.output] == [logits, onnx.load(path).graph.output[1].name]
    for before, after in zip(run_at_two_sizes(path), run_at_two_sizes(shown), strict=True):
        np.testing.assert_allclose(before[0], 1 / (1 + np.exp(-after[0])), rtol=1e-5)
        np.testing.assert_array_equal(before[1], after[1])


def test_unit_vectors_stay_unit_vectors() -> None:
    small = np.array([[0.6, 0.8], [1.0, 0.0]])
    large = np.tile(small, (1, 2)) / np.sqrt(2)
    np.testing.assert_allclose(_tiled(small, large), large)
    np.testing.assert_array_equal(_tiled(3 * small, np.tile(small, (1, 2))), np.tile(3 * small, (1, 2)))


def test_an_output_that_joins_two_results_repeats_each_of_them() -> None:
    first, second = np.arange(8.0).reshape(2, 4), -np.arange(8.0).reshape(2, 4)
    small = np.concatenate([first, second], axis=1)
    joined = np.concatenate([np.tile(first, (1, 2)), np.tile(second, (1, 2))], axis=1)
    assert np.array_equal(_tiled(small, joined), joined)
    whole = np.tile(small, (1, 2))
    assert np.array_equal(_tiled(small, whole), whole)
    assert not np.array_equal(_tiled(small, joined[:, ::-1]), joined[:, ::-1])

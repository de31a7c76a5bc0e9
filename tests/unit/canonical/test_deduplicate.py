"""Copies of one weight are found by their content and stay one weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import bot_onnx
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import distance, run_at_two_sizes


def _layers(copied: bool, one_bias: bool = True) -> onnx.ModelProto:
    """Residual layers through one matrix (one initializer, or a copy a layer) and one bias, or a bias a layer."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, 8))
    shared = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32) * 0.2
    once = "" if copied else b.constant(shared)
    bias = b.weight(8)
    for _ in range(4):
        inside = b.op(
            "Add", b.op("MatMul", x, b.constant(shared) if copied else once), bias if one_bias else b.weight(8)
        )
        x = b.op("Add", x, b.op("Relu", inside))
    b.op("MatMul", x, b.weight(8, 3))
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


def _matrices(path: Path) -> list[np.ndarray]:
    return [a for t in onnx.load(path).graph.initializer if (a := numpy_helper.to_array(t)).shape == (16, 16)]


def test_grown_copies_are_one_weight(tmp_path: Path) -> None:
    copied, shared = (save(_layers(flag), tmp_path, f"{flag}.onnx") for flag in (True, False))
    outs = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for source, out in zip((copied, shared), outs, strict=True):
        assert bot_onnx.resize(source, {"hidden": 16}, out).report.passed
        assert len(_matrices(out)) == 1
    assert distance(run_at_two_sizes(outs[0]), run_at_two_sizes(outs[1])) == 0


def test_it_is_said(tmp_path: Path) -> None:
    notes = bot_onnx.inspect(save(_layers(True), tmp_path)).structure.notes
    assert any(note.startswith("3 tensors were copies") for note in notes)


def test_layers_that_were_copied_as_a_start_stay_apart(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    bot_onnx.resize(save(_layers(True, one_bias=False), tmp_path), {"hidden": 16}, out)
    assert len(_matrices(out)) == 4


def test_a_shared_norm_of_one_value_counts_as_often_as_it_is_written(tmp_path: Path) -> None:
    """Turning the stream moves a norm's scale into matrices; uses of one value are read apart, and stay one tensor."""
    b = GraphBuilder()
    norm, inner, outer = (b.weight(8), b.weight(8)), b.weight(8, 16), b.weight(16, 8)
    x = b.op("MatMul", b.op("Gather", b.weight(11, 3), "ids"), b.weight(3, 8))
    for _ in range(3):
        normed = b.op("LayerNormalization", x, *norm, axis=-1)
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", normed, inner)), outer))
    b.op("MatMul", b.op("LayerNormalization", x, b.weight(8), b.weight(8), axis=-1), b.weight(8, 3))
    model = b.model([("ids", ["batch", 4])], [b.nodes[-1].output[0]], integer_inputs=("ids",), rank=3)
    result = bot_onnx.resize(save(model, tmp_path), {"hidden": 4}, tmp_path / "out.onnx", align="rotate")
    assert result.report.passed
    written = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer]
    assert sum(np.ptp(array) == 0 for array in written if array.shape == (4,)) == 2
    assert result.report.parameters == result.plan.parameters[1] == sum(array.size for array in written)

"""The judge tells right from wrong, and a failed export from a failed resize."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from benchmarks.coverage import judge as judge_module
from benchmarks.coverage.case import Case, Recipe, Row, Target
from benchmarks.coverage.judge import judge
from benchmarks.coverage.oracle import distance
from bot_onnx._patterns.closed_forms import compute
from tests.graphs import GraphBuilder, save

pytestmark = pytest.mark.exporter

BUILDER = "tests.benchmarks.coverage.builders:linear"
CASE = Case(
    "pair", "listed", Recipe(BUILDER, {"hidden": 8}),
    {"smaller": Target({"width": 0.5}, Recipe(BUILDER, {"hidden": 4})), "larger": Target({"width": 2.0})},
)  # fmt: skip


def judged(case: Case, folder: Path) -> dict[str, Row]:
    return {row.target: row for row in judge(case, "torchscript17", tuple(case.targets), folder)}


def test_a_correct_resize_is_equal_by_either_proof(tmp_path: Path) -> None:
    rows = judged(CASE, tmp_path)
    assert [(row.status, row.proof) for row in rows.values()] == [("equal", "native"), ("equal", "growth")]


def test_a_file_of_another_size_than_the_native_one_is_wrong(tmp_path: Path) -> None:
    off = replace(CASE, targets={"smaller": Target({"width": 0.5}, Recipe(BUILDER, {"hidden": 5}))})
    row = judged(off, tmp_path)["smaller"]
    assert row.status == "wrong" and "natively" in row.detail


def test_a_file_that_computes_something_else_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bot_onnx.resize

    def spoilt(source: Path, spec: Any, out: Path, **options: Any) -> bot_onnx.Result:
        result = real(source, spec, out, **options)
        model = onnx.load(out)
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Sigmoid"
        onnx.save(model, out)
        return result

    monkeypatch.setattr(judge_module.bot_onnx, "resize", spoilt)
    rows = judged(CASE, tmp_path)
    assert rows["smaller"].status == "wrong" and rows["smaller"].distance is not None


def test_a_changed_table_is_wrong_even_though_weights_are_carried_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor that no training made must be equal by itself."""
    real = judge_module.trained_values
    monkeypatch.setattr(judge_module, "trained_values", lambda path: real(path)[:0])
    monkeypatch.setattr(judge_module.oracle, "differs_between_seeds", lambda names, first, second: set())
    assert "other values" in judged(CASE, tmp_path)["smaller"].detail


def test_refusals_are_told_from_failed_exports(tmp_path: Path) -> None:
    refused = replace(CASE, targets={"smaller": Target({"hidden": 4})})
    assert judged(refused, tmp_path)["smaller"].status == "refused"
    unbuildable = replace(CASE, source=Recipe(BUILDER, {"hidden": -1}))
    assert {row.status for row in judged(unbuildable, tmp_path).values()} == {"not exportable"}


def test_distance_sees_what_is_not_finite() -> None:
    one, nan = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert distance([[one]], [[nan]]) == distance([[nan * np.nan]], [[nan * np.nan]]) == float("inf")
    assert distance([[nan]], [[nan]]) == 0 and distance([[one]], [[2 * one]]) == 0.5


def test_tables_are_repeated_as_a_whole(tmp_path: Path) -> None:
    """Sines before cosines: repeating each half is nearer to the larger table, and not what the channels do."""
    small, large = (compute("sinusoids:10000,0,0,0,-1", (6, width), np.dtype(np.float32)) for width in (8, 16))
    models = []
    for table in (small, large):
        builder = GraphBuilder()
        result = builder.op("Add", "x", builder.constant(table, "table"))
        models.append(builder.model([("x", [6, table.shape[1]])], [result]))
    judge_module._tile_tables(models[1], save(models[0], tmp_path), ["table"])
    assert np.array_equal(numpy_helper.to_array(models[1].graph.initializer[0]), np.tile(small, 2))


def test_exports_hold_what_training_changes(tmp_path: Path) -> None:
    list(judge(CASE, "torchscript17", ("larger",), tmp_path))
    path = next((tmp_path / "exports").glob("*.onnx"))
    weights = np.concatenate([numpy_helper.to_array(t).ravel() for t in onnx.load(path).graph.initializer])
    assert np.isin(weights, judge_module.trained_values(path)).all()

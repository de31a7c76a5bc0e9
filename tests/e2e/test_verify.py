"""Resized models under verification: what a plan predicts is what the file holds, and exact growth is seen as such."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bot_onnx import api
from bot_onnx.surgery.types import Plan
from bot_onnx.verify import VerifyReport, expected_from_plan, verify_model
from tests.verify_models import save_bert

SHRUNK = {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 48}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("source") / "bert.onnx")


@pytest.fixture
def shrunk(source: Path, tmp_path: Path) -> tuple[Path, Plan]:
    path = tmp_path / "small.onnx"
    return path, api.resize(source, SHRUNK, path).plan


def failed(report: VerifyReport) -> set[str]:
    return {check.name for check in report.checks if check.status == "fail"}


@pytest.mark.parametrize(
    "spec",
    [
        SHRUNK,
        {"layers": 8, "hidden": 64, "heads": 8, "intermediate": 192},
        {"layers": 3, "hidden": 24, "heads": 3},
        {"hidden": 8, "heads": 1},
        {"layers": 1},
        {"layers": 1, "hidden": 16, "heads": 1, "intermediate": 16},
        {"head_dim": 4},
        {"vocab": 40, "positions": 12},
        {"intermediate": 32},
        {"intermediate": 1},
    ],
    ids=str,
)
def test_the_plan_predicts_the_file(source: Path, tmp_path: Path, spec: dict[str, int]) -> None:
    path = tmp_path / "new.onnx"
    plan = api.resize(source, spec, path).plan
    report = verify_model(path, expected=expected_from_plan(plan), against=source)
    assert not failed(report), report.checks
    assert {"layers", "dims", "parameters", "tensors", "size"} <= {check.name for check in report.checks}
    # The analysis counts no tensor of a single element; four biases (one a layer) become one at intermediate 1.
    assert report.parameters == plan.parameters[1] - (4 if spec.get("intermediate") == 1 else 0)
    assert api.verify(path, spec=spec).passed


def test_another_plan_does_not_fit(source: Path, shrunk: tuple[Path, Plan]) -> None:
    path, _ = shrunk
    other = api.plan(source, {**SHRUNK, "layers": 3, "intermediate": 64})
    found = failed(verify_model(path, expected=expected_from_plan(other)))
    assert found == {"layers", "dims", "parameters", "tensors", "size"}


def test_the_source_does_not_fit_the_plan(source: Path, shrunk: tuple[Path, Plan]) -> None:
    assert failed(verify_model(source, expected=expected_from_plan(shrunk[1]))) >= {"layers", "dims", "parameters"}
    assert failed(api.verify(source, spec=SHRUNK)) == {"layers", "dims"}


def test_a_tensor_changed_afterwards_is_found(shrunk: tuple[Path, Plan]) -> None:
    path, plan = shrunk
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [48, 16])
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    report = verify_model(path, expected=replace(expected_from_plan(plan), size_bytes=None))
    assert failed(report) == {"weights", "outputs"}


def test_growth_in_width_is_exact(source: Path, tmp_path: Path) -> None:
    """Haar in the value convention keeps a post-norm network's function: only rounding may differ."""
    options = {"wavelet": "haar", "convention": "value", "details": "zero"}
    path = tmp_path / "large.onnx"
    wide = {"hidden": 64, "heads": 8, "intermediate": 192}
    api.resize(source, wide, path, method="bot", options=options)
    hidden, pooled = verify_model(path, against=source).comparisons
    assert hidden.mapped == "axis 2: 32 to 64 by copies of neighbours"
    assert hidden.cosine == pytest.approx(1.0, abs=1e-6)
    assert hidden.max_difference is not None and hidden.scale is not None
    assert hidden.max_difference < 1e-4 * hidden.scale
    assert pooled.output == "pooler_output"


def test_random_weights_are_seen_as_such(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    api.resize(source, {"hidden": 64, "heads": 8, "intermediate": 192}, path, method="scratch")
    hidden, _ = verify_model(path, against=source).comparisons
    assert hidden.cosine is not None and abs(hidden.cosine) < 0.5

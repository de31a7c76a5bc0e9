"""Resized models under verification: what a plan predicts is what the file holds, and exact growth is seen as such."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import bot_onnx
from bot_onnx import _engine, api
from bot_onnx._canonical.decompose import Scheme
from bot_onnx._surgery.calibrated import Calibrated
from bot_onnx._surgery.proven import Promise
from bot_onnx._surgery.provenance import TOLERANCES
from bot_onnx._surgery.requantise import requantise
from bot_onnx._surgery.types import Plan
from bot_onnx._verify import Check, VerifyReport, expected_from_plan, verify_model
from bot_onnx.errors import VerifyError
from tests.verify_models import promising, save_bert

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


@pytest.mark.thorough
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


WIDE = {"hidden": 64, "heads": 8, "intermediate": 192}


@pytest.fixture
def promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that promise to keep the outputs."""
    monkeypatch.setattr(_engine, "prepare", promising(Promise(kept=True)))


def comparison(report: VerifyReport) -> Check:
    return next(check for check in report.checks if check.name == "comparison")


def test_growth_in_width_is_exact(source: Path, tmp_path: Path) -> None:
    """Haar in the value convention keeps a post-norm network's function: only rounding may differ."""
    options = {"wavelet": "haar", "convention": "value", "details": "zero"}
    path = tmp_path / "large.onnx"
    api.resize(source, WIDE, path, method="bot", options=options)
    hidden, pooled = verify_model(path, against=source).comparisons
    assert hidden.mapped == "axis 2: 32 to 64 by the operator of bot"
    assert hidden.cosine == pytest.approx(1.0, abs=1e-6)
    assert hidden.max_difference is not None and hidden.scale is not None
    assert hidden.max_difference < 1e-4 * hidden.scale
    assert pooled.output == "pooler_output"


def test_random_weights_have_no_counterpart(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    check = comparison(api.resize(source, WIDE, path, method="scratch").report)
    assert check.status == "info" and "there is no operator from 32 to 64" in check.detail


@pytest.mark.thorough
@pytest.mark.parametrize(
    "spec",
    [WIDE, {**WIDE, "layers": 7}, {"layers": 5}, {"head_dim": 16}, {"vocab": 80}, {"heads": 8}],
    ids=str,
)
@pytest.mark.usefixtures("promised")
def test_a_promise_that_is_kept(source: Path, tmp_path: Path, spec: dict[str, int]) -> None:
    path = tmp_path / "large.onnx"
    result = api.resize(source, spec, path)
    assert result.plan.promise == Promise(kept=True)
    assert comparison(result.report).status == "pass"
    report = api.verify(path, against=source)
    assert comparison(report).status == "pass" and report.promise == Promise(kept=True)
    assert all(entry.agrees and entry.tolerance == 1e-4 for entry in report.comparisons)


@pytest.mark.thorough
@pytest.mark.usefixtures("promised")
def test_a_promise_that_is_broken_leaves_no_file(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    with pytest.raises(VerifyError, match=r"output 'last_hidden_state' is off by .* the first value that differs "):
        api.resize(source, {"intermediate": 48}, path)
    assert not list(tmp_path.iterdir())
    assert api.resize(source, {"intermediate": 48}, path, against=False).report.comparisons == ()
    assert failed(api.verify(path, against=source)) == {"comparison"}


def _tampered(path: Path, name: str, off: float) -> str:
    """Move one element of an initializer; returns the name of the node that reads it."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] += off
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return next(node.name for node in model.graph.node if name in node.input)


@pytest.mark.thorough
@pytest.mark.parametrize("depth", [{}, {"layers": 7}], ids=["width", "depth"])
@pytest.mark.usefixtures("promised")
def test_a_tampered_weight_is_found_and_named(source: Path, tmp_path: Path, depth: dict[str, int]) -> None:
    path = tmp_path / "large.onnx"
    api.resize(source, {**WIDE, **depth}, path)
    node = _tampered(path, "encoder.layer.0.intermediate.dense.bias", 0.5)
    report = api.verify(path, against=source)
    check = comparison(report)
    assert check.status == "fail" and failed(report) == {"comparison"}
    assert f"(node {node!r}), whose inputs agree" in check.detail
    ran = subprocess.run(
        [sys.executable, "-m", "bot_onnx", "verify", str(path), "--against", str(source)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 3 and "FAILED: comparison" in ran.stdout


def test_an_unpromised_file_never_passes_the_comparison(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    shrinks = "not kept, as planned: it shrinks (hidden 32 -> 16); not compared: 'last_hidden"
    for method, told in (("bot", shrinks), ("scratch", "")):
        check = comparison(api.resize(source, {"hidden": 16, "heads": 2}, path, method=method, force=True).report)
        assert check.status == "info" and check.detail.startswith(told)
        _tampered(path, "encoder.layer.0.intermediate.dense.bias", 9.0)
        assert api.verify(path, against=source).passed


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in half precision throughout."""
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.name == "value"]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).clip(-65504, 65504).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    for port in model.graph.output:
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    del model.graph.value_info[:]
    return model


@pytest.mark.usefixtures("promised")
def test_half_precision_is_held_to_its_own_tolerance(source: Path, tmp_path: Path) -> None:
    half, path = tmp_path / "half.onnx", tmp_path / "large.onnx"
    onnx.save(_halved(onnx.load(source)), half)
    report = api.resize(half, WIDE, path).report
    assert {entry.tolerance for entry in report.comparisons} == {TOLERANCES["FLOAT16"]}
    worst = max((entry.max_difference or 0) / (entry.scale or 1) for entry in report.comparisons)
    assert 1e-4 < worst < TOLERANCES["FLOAT16"]
    _tampered(path, "encoder.layer.0.intermediate.dense.bias", 2.0)
    assert failed(api.verify(path, against=half)) == {"comparison"}


@pytest.mark.usefixtures("promised")
def test_a_quantised_source_is_held_to_its_floats(source: Path, tmp_path: Path) -> None:
    """Its own outputs are off by a tenth of their scale, for it rounds its activations: no measure of a resize."""
    packed, path = tmp_path / "packed.onnx", tmp_path / "large.onnx"
    scheme = Scheme("dynamic", ("INT8",), (("MatMulInteger", 1),), False)
    requantise(scheme, source, packed, Calibrated({}, 0, 0, frozenset()))
    report = api.resize(packed, WIDE, path).report
    assert comparison(report).status == "pass"
    assert {entry.tolerance for entry in report.comparisons} == {TOLERANCES["QUANTISED"]}
    assert max((entry.max_difference or 0) / (entry.scale or 1) for entry in report.comparisons) < 1e-4
    _tampered(path, "encoder.layer.0.intermediate.dense.bias", 0.5)
    assert failed(api.verify(path, against=packed)) == {"comparison"}


@pytest.mark.usefixtures("promised")
def test_weights_that_were_brought_in_end_the_promise(source: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "large.onnx", tmp_path / "trained.onnx"
    api.resize(source, WIDE, path)
    weights = {name: values + 1 for name, values in bot_onnx.state_dict(path).items()}
    bot_onnx.import_weights(path, weights, out)
    check = comparison(api.verify(out, against=source))
    assert check.status == "info"
    assert check.detail.startswith(
        "nothing is promised of the outputs: weights brought in since; last_hidden_state cos"
    )

"""Good files pass every check; each kind of fault fails the check that is named after it, and never raises."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bot_onnx._installing import install
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._structure import Structure
from bot_onnx._target import TargetSpec
from bot_onnx._verify import Expected, VerifyReport, expected_from_spec, raise_unless_passed, verify_model
from bot_onnx._verify import runner as runner_module
from bot_onnx._verify.runner import Runner
from bot_onnx.errors import GraphError, MissingRuntimeError, VerifyError
from tests.verify_models import change, save, save_bert, save_constant, save_linear

RNG = np.random.default_rng(9)


def failures(report: VerifyReport) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if check.status == "fail"}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path / "bert.onnx")


def test_a_good_model_passes_everything(bert: Path) -> None:
    report = verify_model(bert, expected=Expected(layers=(("encoder", 4),)), against=bert)
    assert [check.name for check in report.checks] == [
        "checker", "shapes", "weights", "structure", "layers", "load", "run", "outputs", "output shapes", "comparison",
    ]  # fmt: skip
    # Nothing says how a file that was not resized came from another.
    assert {check.name for check in report.checks if check.status != "pass"} == {"comparison"}
    assert report.checks[-1].status == "info"
    assert report.passed
    assert report.path == str(bert)
    assert report.size_bytes == bert.stat().st_size
    assert report.layers == {"encoder": 4}
    assert report.dims == {
        "vocab": 61, "hidden": 32, "positions": 24, "heads": 4, "head_dim": 8, "intermediate": 96,
    }  # fmt: skip
    weights = sum(int(np.prod(t.dims)) for t in onnx.load(bert).graph.initializer if t.data_type == TensorProto.FLOAT)
    assert report.parameters == weights
    raise_unless_passed(report)


def test_the_same_file_gives_the_same_report(bert: Path) -> None:
    assert verify_model(bert, against=bert) == verify_model(bert, against=bert)


def test_the_seed_chooses_the_inputs(bert: Path, tmp_path: Path) -> None:
    other = save_bert(tmp_path / "other.onnx")
    change(other, "embeddings.word_embeddings.weight", RNG.normal(size=(61, 32)))
    first, second = (verify_model(bert, against=other, seed=seed).comparisons for seed in (0, 1))
    assert first != second


def test_a_weight_of_another_shape(bert: Path) -> None:
    change(bert, "encoder.layer.1.intermediate.dense.bias", np.zeros(95))
    found = failures(verify_model(bert))
    assert {"checker", "shapes", "structure"} <= found.keys()
    assert "run" in found or "load" in found


def test_a_weight_that_is_nan(bert: Path) -> None:
    weight = np.ones((96, 32))
    weight[3, 4] = np.nan
    name = next(
        tensor.name for tensor in onnx.load(bert).graph.initializer if list(tensor.dims) == [96, 32]
    )  # fmt: skip
    change(bert, name, weight)
    found = failures(verify_model(bert))
    assert found["weights"] == f"tensor {name!r} has 1 NaN or infinite values"
    assert "'last_hidden_state'" in found["outputs"]
    assert found.keys() == {"weights", "outputs"}
    allowed = verify_model(bert, allow_nonfinite=True)
    assert allowed.passed
    assert {check.name for check in allowed.checks if check.status == "skip"} == {"weights", "outputs"}


def test_outputs_that_overflow(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["large"]), helper.make_node("Exp", ["large"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"weight": np.full((3, 4), 1e30)}, {"x": ["n", 3]}, {"y": ["n", 4]})
    assert failures(verify_model(path)).keys() == {"outputs"}


def test_an_output_declared_wrongly(tmp_path: Path) -> None:
    path = save_linear(tmp_path / "m.onnx", RNG.normal(size=(3, 4)))
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(model, path)
    assert failures(verify_model(path)).keys() >= {"checker", "shapes"}
    shallow = verify_model(path, deep_shapes=False)
    assert "shapes" not in {check.name for check in shallow.checks}
    told = failures(shallow)["output shapes"]
    assert told == "'y' is ?x5 by declaration or inference, but 2x4 when run"


def test_what_was_predicted_is_told(bert: Path) -> None:
    found = failures(verify_model(bert, expected=Expected(layers=(("encoder", 2),))))
    assert found == {"layers": "predicted encoder 2, found encoder 4"}


def test_predictions_can_come_from_the_structure(bert: Path) -> None:
    def expected(structure: Structure) -> Expected:
        return expected_from_spec(structure, TargetSpec(hidden=32, heads=8))

    assert failures(verify_model(bert, expected=expected)) == {"dims": "predicted heads 8, found 4"}

    def impossible(structure: Structure) -> Expected:
        return expected_from_spec(structure, TargetSpec(layers={"decoder": 2}))

    assert "no chain of the file has this name" in failures(verify_model(bert, expected=impossible))["prediction"]


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOp", ["x"], ["y"], domain="nowhere")
    path = save(tmp_path / "m.onnx", [node], {}, {"x": ["n", 3]}, {"y": ["n", 3]}, domains=["nowhere"])
    report = verify_model(path, expected=lambda structure: Expected(), against=path)
    assert failures(report).keys() == {"structure", "load"}
    assert "NoSuchOp" in failures(report)["load"]
    states = {check.name: check.status for check in report.checks}
    assert states["prediction"] == states["comparison"] == "skip"
    assert (report.layers, report.dims, report.parameters) == ({}, {}, 0)


def test_ops_of_onnxruntime_itself_are_valid(tmp_path: Path) -> None:
    node = helper.make_node("FusedMatMul", ["x", "weight"], ["y"], domain="com.microsoft", alpha=0.5)
    weights = {"weight": RNG.normal(size=(3, 4))}
    path = save(tmp_path / "m.onnx", [node], weights, {"x": ["n", 3]}, {"y": ["n", 4]}, domains=["com.microsoft"])
    assert failures(verify_model(path)) == {}


def test_models_without_inputs(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    path = save(tmp_path / "m.onnx", [node], {"a": np.ones(3), "b": np.arange(3.0)}, {}, {"y": [3]})
    report = verify_model(path, against=path)
    assert failures(report) == {}
    assert report.comparisons[0].max_difference == 0


def test_ids_that_a_computed_table_does_not_have(tmp_path: Path) -> None:
    """The graph shows 40 rows, but the same ids look up 2 computed ones: 0 and 1 suit both."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"]),
        helper.make_node("Abs", ["rows"], ["computed"]),
        helper.make_node("Gather", ["computed", "ids"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    weights = {"table": RNG.normal(size=(40, 4)), "rows": RNG.normal(size=(2, 4))}
    path = save(
        tmp_path / "m.onnx", nodes, weights, {"ids": ["batch", "n"]}, {"y": ["batch", "n", 4]}, integers=["ids"]
    )
    assert failures(verify_model(path)) == {}


def test_all_failures_stand_in_one_message(bert: Path) -> None:
    change(bert, "encoder.layer.1.intermediate.dense.bias", np.full(96, np.inf))
    report = verify_model(bert, expected=Expected(parameters=3))
    with pytest.raises(
        VerifyError, match=r"failed 3 of \d+ checks: weights: .*; parameters: predicted 3, .*; outputs: "
    ):
        raise_unless_passed(report)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x80\x02 no model")
    with pytest.raises(GraphError, match="pickle"):
        verify_model(path)
    good = save_constant(tmp_path / "good.onnx", [1.0, 2.0])
    with pytest.raises(GraphError, match="no file"):
        verify_model(good, against=tmp_path / "gone.onnx")


def test_without_onnxruntime(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingRuntimeError, match=re.escape(install("cpu"))):
        verify_model(bert)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_file_that_has_no_name_yet(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = verify_model(bert, against=bert)
    with open(bert, "rb") as stream:
        renamed = bert.rename(bert.with_name("elsewhere.onnx"))
        open_file = f"/proc/self/fd/{stream.fileno()}"
        unnamed = verify_model(bert, readable=os.fsencode(open_file), against=renamed)
        assert unnamed == usual
        monkeypatch.setattr(runner_module, "WHOLE_BYTES", 0)
        renamed.unlink()
        assert verify_model("new.onnx", readable=open_file).passed


def _external(source: Path, target: Path) -> Path:
    onnx.save(onnx.load(source), target, save_as_external_data=True, location=f"{target.name}.data", size_threshold=0)
    return target


@pytest.mark.parametrize("external", [False, True])
def test_mapped_weights_give_the_same_outputs(bert: Path, external: bool) -> None:
    # Large enough for the reader to leave them in the file.
    wide = save_linear(bert.with_name("wide.onnx"), RNG.normal(size=(3, 20_000)))
    path = _external(wide, bert.with_name("external.onnx")) if external else wide
    feeds = {"x": RNG.normal(size=(2, 3)).astype(np.float32)}
    with open_model(path) as source:
        loaded, mapped = Runner(source, str(path)), Runner(source, str(path), mapped=True)
        assert (loaded.is_mapped, mapped.is_mapped) == (False, True)
        np.testing.assert_array_equal(loaded.run(feeds)["y"], mapped.run(feeds)["y"])
        loaded.close()
        mapped.close()
    assert verify_model(path, against=wide).passed


def test_weights_numpy_does_not_know_are_loaded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["weight"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "full"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {}, {"x": ["n", 3]}, {"y": ["n", 9000]})
    model = onnx.load(path)
    raw = np.zeros(3 * 9000, np.uint16).tobytes()
    model.graph.initializer.append(
        onnx.TensorProto(name="weight", dims=[3, 9000], data_type=TensorProto.BFLOAT16, raw_data=raw)
    )
    onnx.save(model, path)
    with open_model(path) as source:
        assert source.tensors["weight"].file is not None
        runner = Runner(source, str(path), mapped=True)
        assert not runner.is_mapped
        assert runner.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 9000)
        runner.close()

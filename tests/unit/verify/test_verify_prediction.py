"""Predictions held against a file's analysis: what agrees, what does not, and what a size of 1 hides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot_onnx import inspect, resize
from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Chain, Structure
from bot_onnx._target import TargetSpec, solve
from bot_onnx._verify import Check, Expected, expected_from_spec
from bot_onnx._verify.prediction import check_prediction
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save
from tests.spec_structures import structure as structure_of
from tests.verify_models import save_bert

ROLES = {
    "hidden": frozenset({32}),
    "heads": frozenset({4}),
    "head_dim": frozenset({8}),
    "v_head_dim": frozenset({8}),
    "intermediate": frozenset({96}),
    "vocab": frozenset({61}),
    "positions": frozenset({24}),
    "out": frozenset({32}),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with open_model(save_bert(tmp_path_factory.mktemp("bert") / "bert.onnx")) as opened:
        yield opened


@pytest.fixture(scope="module")
def structure(source: Source) -> Structure:
    return analyse(source.model()).structure


@pytest.fixture(scope="module")
def right(source: Source, structure: Structure) -> Expected:
    tensors = {name: (stored.dtype.name, stored.shape) for name, stored in source.tensors.items()}
    return Expected(
        layers=(("encoder", 4),),
        roles=ROLES,
        tensors=tensors,
        parameters=structure.parameters,
        size_bytes=source.size_bytes,
        complete=True,
    )


def only_fault(expected: Expected, structure: Structure, source: Source) -> Check:
    failed = [check for check in check_prediction(expected, structure, source) if check.status == "fail"]
    assert len(failed) == 1, failed
    return failed[0]


def test_right_predictions_pass(right: Expected, structure: Structure, source: Source) -> None:
    checks = check_prediction(right, structure, source)
    assert [check.name for check in checks] == ["layers", "dims", "parameters", "tensors", "size"]
    assert {check.status for check in checks} == {"pass"}


def test_nothing_predicted_nothing_checked(structure: Structure, source: Source) -> None:
    assert check_prediction(Expected(), structure, source) == []


@pytest.mark.parametrize(
    ("wrong", "name", "told"),
    [
        ({"layers": (("encoder", 2),)}, "layers", "predicted encoder 2, found encoder 4"),
        ({"layers": (("a", 4), ("b", 4))}, "layers", "predicted a 4, b 4, found encoder 4"),
        ({"layers": ()}, "layers", "predicted no chain of layers, found encoder 4"),
        ({"roles": {**ROLES, "hidden": frozenset({16})}}, "dims", "predicted hidden 16, found 32"),
        ({"roles": {**ROLES, "hidden": frozenset({16, 32})}}, "dims", "predicted hidden 16, found 32"),
        ({"roles": {r: s for r, s in ROLES.items() if r != "positions"}}, "dims", "found positions 24, predicted none"),
        ({"roles": {**ROLES, "kv_heads": frozenset({2})}}, "dims", "predicted kv_heads 2, found none"),
        ({"parameters": 7}, "parameters", "predicted 7, found"),
        ({"size_bytes": 7}, "size", "predicted 7 bytes, found"),
        ({"tensors": {"gone": ("FLOAT", (2,))}}, "tensors", "predicted tensor 'gone', found none of this name"),
        (
            {"tensors": {"pooler.dense.bias": ("FLOAT", (16,))}},
            "tensors",
            "predicted 'pooler.dense.bias' as FLOAT [16], found FLOAT [32]",
        ),
        ({"tensors": {"pooler.dense.bias": ("FLOAT16", (32,))}}, "tensors", "found FLOAT [32]"),
    ],
)
def test_wrong_predictions_fail(
    right: Expected, structure: Structure, source: Source, wrong: dict[str, object], name: str, told: str
) -> None:
    fault = only_fault(replace(right, **wrong), structure, source)  # type: ignore[arg-type]
    assert fault.name == name
    assert told in fault.detail


def test_an_axis_of_size_one_leaves_no_dim(structure: Structure, source: Source) -> None:
    heads = replace(Expected(roles={**ROLES, "kv_heads": frozenset({1})}, complete=True))
    assert {check.status for check in check_prediction(heads, structure, source)} == {"pass"}


def test_sizes_must_agree_beside_a_size_of_one(structure: Structure, source: Source) -> None:
    roles = {**ROLES, "kv_heads": frozenset({1}), "hidden": frozenset({48})}
    fault = only_fault(Expected(roles=roles, complete=True), structure, source)
    assert "predicted hidden 48" in fault.detail


def test_a_single_layer_is_no_chain(structure: Structure, source: Source) -> None:
    predicted = Expected(layers=(("encoder", 1), ("decoder", 4)), complete=True)
    assert [check.status for check in check_prediction(predicted, structure, source)] == ["pass"]
    predicted = Expected(layers=(("encoder", 4), ("decoder", 1), ("head", 3)), complete=True)
    assert only_fault(predicted, structure, source).name == "layers"


def test_a_size_that_became_one_hides_layers(structure: Structure, source: Source) -> None:
    """What was a matrix is a number then; chains that nobody predicted are a fault all the same."""
    none = replace(structure, chains=())
    hidden = Expected(layers=(("encoder", 2),), complete=True, vanished=True)
    assert [check.status for check in check_prediction(hidden, none, source)] == ["pass"]
    assert only_fault(replace(hidden, vanished=False), none, source).name == "layers"
    assert only_fault(hidden, structure, source).name == "layers"


def test_layers_of_one_channel_are_written(tmp_path: Path) -> None:
    b, x = GraphBuilder(), "x"
    matrix, bias = b.weight(2, 2), b.weight(2)
    x = b.op("MatMul", x, b.weight(3, 2))
    for _ in range(3):
        x = b.op("Relu", b.op("Add", b.op("MatMul", x, matrix), bias))
    model = b.model([("x", ["batch", 3])], [b.op("MatMul", x, b.weight(2, 5))])
    result = resize(save(model, tmp_path), {"hidden": 1}, tmp_path / "out.onnx")
    assert [layer.count for layer in inspect(tmp_path / "model.onnx").structure.chains] == [3]
    assert result.report.passed and "a size of 1 hides layers" in str(result.report.checks)


def test_order_of_the_chains_counts(structure: Structure, source: Source) -> None:
    two = replace(structure, chains=(Chain("a", 4, 1, 9), Chain("b", 2, 1, 9)))
    right_order = Expected(layers=(("x", 4), ("y", 2)), complete=True)
    assert [check.status for check in check_prediction(right_order, two, source)] == ["pass"]
    assert only_fault(Expected(layers=(("x", 2), ("y", 4)), complete=True), two, source).name == "layers"


def test_without_analysis_sizes_are_skipped_and_tensors_are_not(right: Expected, source: Source) -> None:
    checks = {check.name: check.status for check in check_prediction(right, None, source)}
    assert checks == {"prediction": "skip", "tensors": "pass", "size": "pass"}


@pytest.mark.parametrize(
    "spec",
    [
        {"layers": 4},
        {"layers": [4], "hidden": 32},
        {"layers": {"encoder": 4}, "heads": 4, "head_dim": 8, "intermediate": 96},
        {"vocab": 61, "positions": 24},
        {"kv_heads": 4},
        {"dims": {"intermediate": 96, "dim_512": 32}},
        {"kv_heads": 3, "soft": ["kv_heads"]},
        {"vocab": 99, "dims": {"vocab": 61}, "soft": ["vocab"]},
    ],
)
def test_specs_that_the_file_meets(structure: Structure, source: Source, spec: dict[str, object]) -> None:
    expected = expected_from_spec(structure, TargetSpec.parse(spec))
    assert all(check.status == "pass" for check in check_prediction(expected, structure, source))


def test_keys_that_relate_to_a_source_are_told_and_not_passed(structure: Structure, source: Source) -> None:
    expected = expected_from_spec(structure, TargetSpec.parse({"heads": 4, "width": 0.5, "round_to": 8}))
    checks = {check.name: check for check in check_prediction(expected, structure, source)}
    assert {name: check.status for name, check in checks.items()} == {
        "dims": "pass",
        "width": "skip",
        "round_to": "skip",
    }
    assert checks["width"].detail.startswith("not checked: it relates to the source")


def test_a_key_beside_a_dim_of_its_role_is_judged_as_it_was_solved(source: Source) -> None:
    twins = structure_of([("hidden", "hidden", 64), ("hidden_2", "hidden", 64), ("hidden_3", "hidden", 128)])
    spec = TargetSpec.parse({"hidden": 32, "dims": {"hidden": 16}})
    sizes = solve(twins, spec).sizes
    made = replace(twins, dims={name: replace(dim, size=sizes[name]) for name, dim in twins.dims.items()})
    assert [one.status for one in check_prediction(expected_from_spec(made, spec), made, source)] == ["pass"]


@pytest.mark.parametrize(
    ("spec", "name", "told"),
    [
        ({"layers": 6}, "layers", "predicted encoder 6, found encoder 4"),
        ({"layers": {"encoder": 3}}, "layers", "predicted encoder 3, found encoder 4"),
        ({"layers": 1}, "layers", "predicted encoder 1, found encoder 4"),
        ({"hidden": 64}, "dims", "predicted hidden 64, found 32"),
        ({"heads": 8}, "dims", "predicted heads 8, found 4"),
        ({"kv_heads": 2}, "dims", "predicted kv_heads 2, found none"),
        ({"dims": {"intermediate": 12}}, "dims", "predicted intermediate 12, found 96"),
        ({"dims": {"other": 12}}, "dims", "predicted other 12, found neither the name nor the size"),
    ],
)
def test_specs_that_the_file_misses(
    structure: Structure, source: Source, spec: dict[str, object], name: str, told: str
) -> None:
    fault = only_fault(expected_from_spec(structure, TargetSpec.parse(spec)), structure, source)
    assert fault.name == name
    assert told in fault.detail


@pytest.mark.parametrize("layers", [[4, 2], {"decoder": 4}])
def test_specs_that_speak_of_other_chains(structure: Structure, layers: object) -> None:
    with pytest.raises(SpecError, match=r"encoder \(4\)"):
        expected_from_spec(structure, TargetSpec.parse({"layers": layers}))


def test_a_soft_key_gives_way_to_a_frozen_dim(structure: Structure, source: Source) -> None:
    dims = {
        name: replace(dim, frozen=Reason.of(Why.ADDRESSED_ROWS, "table")) if dim.role == "vocab" else dim
        for name, dim in structure.dims.items()
    }  # fmt: skip
    frozen = replace(structure, dims=dims)
    soft, hard = TargetSpec.parse({"vocab": 99, "soft": ["vocab"]}), TargetSpec.parse({"vocab": 99})
    assert check_prediction(expected_from_spec(frozen, soft), frozen, source) == []
    assert only_fault(expected_from_spec(frozen, hard), frozen, source).detail == "predicted vocab 99, found 61"
    assert only_fault(expected_from_spec(structure, soft), structure, source).name == "dims"

"""Similarities against numbers worked out by hand, and how outputs of another size are brought together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from bot_onnx._verify import Check, OutputComparison, VerifyReport, verify_model
from bot_onnx._verify.comparison import cosine_sum, divergence_sum
from tests.verify_models import save, save_constant, save_linear, save_lookup

RNG = np.random.default_rng(5)


def compared(report: VerifyReport) -> OutputComparison:
    assert report.passed, report.checks
    (entry,) = report.comparisons
    return entry


def comparison(report: VerifyReport) -> Check:
    return next(check for check in report.checks if check.name == "comparison")


def skipped(report: VerifyReport) -> str:
    check = comparison(report)
    assert check.status == "skip"
    assert report.comparisons == ()
    return check.detail


def test_divergence_and_cosine_by_hand(tmp_path: Path) -> None:
    source = save_constant(tmp_path / "source.onnx", [math.log(0.5), math.log(0.25), math.log(0.25)])
    new = save_constant(tmp_path / "new.onnx", [2.0, 2.0, 2.0])
    entry = compared(verify_model(new, against=source))
    # p = (1/2, 1/4, 1/4), q uniform: KL(p || q) = 1/2 ln(3/2) + 1/2 ln(3/4).
    assert entry.divergence == pytest.approx(0.5 * math.log(1.5) + 0.5 * math.log(0.75), abs=1e-6)
    a, b = math.log(2), math.log(4)
    assert entry.cosine == pytest.approx(-(a + 2 * b) / math.sqrt(3 * (a * a + 2 * b * b)), abs=1e-6)
    assert entry.max_difference == pytest.approx(2 + b, abs=1e-6)
    assert entry.scale == pytest.approx(b, abs=1e-6)
    assert entry.mapped is None
    assert entry.output == "logits"


def test_divergence_is_from_source_to_new(tmp_path: Path) -> None:
    source = save_constant(tmp_path / "source.onnx", [0.0, 3.0])
    new = save_constant(tmp_path / "new.onnx", [0.0, 0.0])
    forth = compared(verify_model(new, against=source)).divergence
    back = compared(verify_model(source, against=new)).divergence
    p = math.exp(3) / (1 + math.exp(3))
    assert forth == pytest.approx(math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p), abs=1e-6)
    assert back == pytest.approx(-math.log(2) - 0.5 * math.log(p * (1 - p)), abs=1e-6)


def test_a_model_against_itself(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "m.onnx", [-1.0, 4.0, 0.5])
    entry = compared(verify_model(path, against=path))
    assert (entry.max_difference, entry.divergence) == (0.0, 0.0)
    assert entry.cosine == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_probabilities_are_no_logits(tmp_path: Path, last: str) -> None:
    source = save_constant(tmp_path / "source.onnx", [0.0, 1.0], last=last)
    new = save_constant(tmp_path / "new.onnx", [1.0, 0.0], last=last)
    assert compared(verify_model(new, against=source)).divergence is None


def test_probabilities_are_seen_behind_a_change_of_form(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["p"]),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"weight": RNG.normal(size=(3, 4))}, {"x": ["n", 3]}, {"y": ["n", 4]})
    assert compared(verify_model(path, against=path)).divergence is None


def test_logits_far_apart_do_not_overflow() -> None:
    new, source = np.array([[2000.0, 0.0]]), np.array([[0.0, 2000.0]])
    assert divergence_sum(new, source) == 2000.0
    huge = np.array([[1e200, 1e200]])
    assert cosine_sum(huge, huge) == pytest.approx(1.0)


def test_rows_of_zeros() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert (cosine_sum(zero, zero), cosine_sum(zero, one), cosine_sum(one, zero)) == (1.0, 0.0, 0.0)


_ROWS = hnp.arrays(np.float64, (4, 5), elements=st.floats(-30, 30, width=32))


@given(new=_ROWS, source=_ROWS, shift=st.floats(-50, 50))
def test_divergence_is_positive_and_ignores_a_shift(new: np.ndarray, source: np.ndarray, shift: float) -> None:
    divergence = divergence_sum(new, source)
    assert divergence >= -1e-9
    assert divergence_sum(new + shift, source) == pytest.approx(divergence, rel=1e-9, abs=1e-9)
    assert abs(cosine_sum(new, source)) <= 4 + 1e-9


def test_a_file_of_unknown_origin_is_never_passed(tmp_path: Path) -> None:
    weight = RNG.normal(size=(3, 4))
    path = save_linear(tmp_path / "m.onnx", weight)
    other = save_linear(tmp_path / "other.onnx", weight + 1)
    for against in (path, other):
        check = comparison(verify_model(path, against=against))
        assert check.status == "info"
        assert check.detail.startswith("no promise known: the file does not say how it was made from this model; y cos")


def test_other_sizes_of_unknown_origin_are_not_compared(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "source.onnx", RNG.normal(size=(3, 4)))
    new = save_linear(tmp_path / "new.onnx", RNG.normal(size=(3, 8)))
    check = comparison(verify_model(new, against=source))
    assert check.status == "info"
    assert "not compared: 'y': its shape is 2x8, the source's 2x4" in check.detail


def test_ids_come_from_all_over_the_vocabulary(tmp_path: Path) -> None:
    """Two tables that agree on ids 0 and 1 alone must not pass for equal."""
    table, head = RNG.normal(size=(40, 4)), RNG.normal(size=(4, 40))
    other = table.copy()
    other[2:] += 1.0
    source = save_lookup(tmp_path / "source.onnx", table, head)
    new = save_lookup(tmp_path / "new.onnx", other, head)
    entry = compared(verify_model(new, against=source))
    assert entry.max_difference is not None and entry.max_difference > 0.1


def _inputs(detail: str, sources: Sequence[Path]) -> None:
    assert detail in skipped(verify_model(sources[0], against=sources[1]))


def test_other_inputs_are_not_compared(tmp_path: Path) -> None:
    linear = save_linear(tmp_path / "linear.onnx", RNG.normal(size=(3, 4)))
    wide = save_linear(tmp_path / "wide.onnx", RNG.normal(size=(6, 4)))
    lookup = save_lookup(tmp_path / "lookup.onnx", RNG.normal(size=(9, 4)), RNG.normal(size=(4, 9)))
    _inputs("different inputs: ids, x in one of them only", [linear, lookup])
    _inputs("input 'x' differs: float32 ['batch', 3], float32 ['batch', 6]", [linear, wide])


def test_outputs_without_a_partner_are_named(tmp_path: Path) -> None:
    weight = RNG.normal(size=(3, 2))
    new = save_linear(tmp_path / "new.onnx", weight)
    source = save_constant(tmp_path / "source.onnx", [1.0, 2.0])
    check = comparison(verify_model(new, against=source))
    assert check.status == "info"
    assert check.detail.endswith(
        "not compared: 'logits': the model has no such output; not compared: 'y': the source has no such output"
    )

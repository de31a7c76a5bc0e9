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

from bot_onnx.verify import Check, OutputComparison, VerifyReport, verify_model
from bot_onnx.verify.comparison import Incomparable, compare, cosine_sum, divergence_sum
from bot_onnx.verify.outputs import OutputAxes
from tests.verify_models import save, save_constant, save_linear, save_lookup

RNG = np.random.default_rng(5)


def compared(report: VerifyReport) -> OutputComparison:
    assert report.passed, report.checks
    (entry,) = report.comparisons
    return entry


def skipped(report: VerifyReport) -> str:
    check = next(check for check in report.checks if check.name == "comparison")
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


def test_growth_by_copies_is_recognised(tmp_path: Path) -> None:
    weight = RNG.normal(size=(3, 4))
    source = save_linear(tmp_path / "source.onnx", weight)
    new = save_linear(tmp_path / "new.onnx", np.repeat(weight, 2, axis=1))
    entry = compared(verify_model(new, against=source))
    assert entry.mapped == "axis 1: 4 to 8 by copies of neighbours"
    assert entry.cosine == pytest.approx(1.0, abs=1e-6)
    assert entry.max_difference == pytest.approx(0.0, abs=1e-5)


def test_shrinking_is_compared_with_means(tmp_path: Path) -> None:
    weight = RNG.normal(size=(3, 8))
    source = save_linear(tmp_path / "source.onnx", weight)
    new = save_linear(tmp_path / "new.onnx", weight.reshape(3, 4, 2).mean(axis=2))
    entry = compared(verify_model(new, against=source))
    assert entry.mapped == "axis 1: 8 to 4 by means of neighbours"
    assert entry.max_difference == pytest.approx(0.0, abs=1e-5)


def test_a_mapping_is_used_as_it_is_given(tmp_path: Path) -> None:
    weight = RNG.normal(size=(3, 5))
    chosen = [4, 0, 2]
    source = save_linear(tmp_path / "source.onnx", weight)
    new = save_linear(tmp_path / "new.onnx", weight[:, chosen])
    asked: list[tuple[str, int, int, int]] = []

    def select(name: str, axis: int, before: int, size: int) -> np.ndarray:
        asked.append((name, axis, before, size))
        return np.eye(before)[chosen]

    entry = compared(verify_model(new, against=source, mapping=select))
    assert set(asked) == {("y", 1, 5, 3)}
    assert entry.max_difference == pytest.approx(0.0, abs=1e-5)
    assert entry.mapped == "axis 1: 5 to 3 by the axis' operator"


@pytest.mark.parametrize(
    ("returned", "told"),
    [(None, "no operator for its axis 1 (5 to 3)"), (np.ones((5, 3)), "has shape (5, 3), not (3, 5)")],
)
def test_a_mapping_that_does_not_help(tmp_path: Path, returned: np.ndarray | None, told: str) -> None:
    source = save_linear(tmp_path / "source.onnx", RNG.normal(size=(3, 5)))
    new = save_linear(tmp_path / "new.onnx", RNG.normal(size=(3, 3)))
    assert told in skipped(verify_model(new, against=source, mapping=lambda *_: returned))


def test_a_broken_ratio_needs_a_mapping(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "source.onnx", RNG.normal(size=(3, 5)))
    new = save_linear(tmp_path / "new.onnx", RNG.normal(size=(3, 3)))
    assert "from 5 to 3, which is no whole ratio" in skipped(verify_model(new, against=source))


def test_a_smaller_vocabulary_is_compared_on_its_own_tokens(tmp_path: Path) -> None:
    table, head = RNG.normal(size=(16, 4)), RNG.normal(size=(4, 16))
    source = save_lookup(tmp_path / "source.onnx", table, head)
    new = save_lookup(tmp_path / "new.onnx", table[:8], head[:, :8])
    entry = compared(verify_model(new, against=source))
    assert entry.mapped == "axis 2: the first 8 tokens of both"
    assert entry.max_difference == pytest.approx(0.0, abs=1e-5)
    assert entry.divergence == pytest.approx(0.0, abs=1e-9)


def test_a_larger_vocabulary_is_fed_with_the_source_s_tokens(tmp_path: Path) -> None:
    """Ids that only the new table has would stop the source."""
    table, head = RNG.normal(size=(200, 4)), RNG.normal(size=(4, 200))
    source = save_lookup(tmp_path / "source.onnx", table[:5], head[:, :5])
    new = save_lookup(tmp_path / "new.onnx", table, head)
    entry = compared(verify_model(new, against=source))
    assert entry.mapped == "axis 2: the first 5 tokens of both"
    assert entry.max_difference == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        (OutputAxes((None, "free"), (False, True), False), "it is made of parts"),
        (OutputAxes((None, None), (False, False), False), "it is no axis of a weight"),
        (None, "it is no axis of a weight"),
    ],
)
def test_axes_that_no_single_operator_maps(axes: OutputAxes | None, told: str) -> None:
    new, source = [np.ones((2, 4))], [np.ones((2, 8))]
    with pytest.raises(Incomparable, match=told):
        compare("y", new, source, axes, None)
    entry = compare("y", new, source, OutputAxes((None, "free"), (False, False), False), None)
    assert entry.max_difference == 0


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
    detail = skipped(verify_model(new, against=source))
    assert detail == "not compared: 'y': no output of floats in both"


def test_comparison_is_told_among_the_checks(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "m.onnx", [1.0, 2.0])
    report = verify_model(path, against=path)
    assert report.checks[-1] == Check("comparison", "pass", "logits cosine 1.0000, KL 0 nats")

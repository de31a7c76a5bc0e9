"""A factor on what layers add may depend on their number: it stays with a note if it is round, else it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx.errors import SpecError
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import scaled_branches


def test_another_depth_is_noted_and_no_other_change(tmp_path: Path) -> None:
    source = save(scaled_branches(), tmp_path)
    (note,) = [n for n in bot_onnx.plan(source, {"layers": 6}).notes if "is scaled by" in n]
    assert "is scaled by 0.5 (Mul, node 'node_mul" in note
    assert "'constants'" in note
    assert not [n for n in bot_onnx.plan(source, {"hidden": 4}).notes if "is scaled by" in n]
    plain = save(scaled_branches(factor=1.0), tmp_path, "plain.onnx")
    assert not [n for n in bot_onnx.plan(plain, {"layers": 6}).notes if "is scaled by" in n]


@pytest.mark.parametrize("factor", [0.22, 0.5, 2**-0.5, 3.0])
def test_round_factors_stay(factor: float, tmp_path: Path) -> None:
    source = save(scaled_branches(factor=factor), tmp_path)
    assert any("which stays" in note for note in bot_onnx.plan(source, {"layers": 6}).notes)


def test_another_factor_is_asked_for_and_follows_the_formula(tmp_path: Path) -> None:
    source, out = save(scaled_branches(layers=4, factor=(4 / 36) ** 0.5), tmp_path), tmp_path / "out.onnx"
    with pytest.raises(SpecError, match=r"\"constants\": \{\"node_mul\*\": \"sqrt\(layers\)/6\"\}"):
        bot_onnx.resize(source, {"layers": 2}, out)
    assert not out.exists()
    spec = {"layers": 2, "constants": {"node_mul*": "sqrt(layers)/6"}}
    assert bot_onnx.resize(source, spec, out).report.passed
    wanted = save(scaled_branches(layers=2, factor=(2 / 36) ** 0.5), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_a_number_keeps_it(tmp_path: Path) -> None:
    source, out = save(scaled_branches(factor=1 / 3), tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"layers": 6, "constants": {"node_mul*": 1 / 3}}, out).report.passed


def test_numbers_that_differ_between_layers_were_trained(tmp_path: Path) -> None:
    model = scaled_branches(factor=1 / 3)
    factors = [tensor for tensor in model.graph.initializer if not tensor.dims]
    for number, tensor in enumerate(factors):
        tensor.CopyFrom(numpy_helper.from_array(np.float32(0.1234567 * (number + 1)), tensor.name))
    assert len(factors) == 4
    assert bot_onnx.plan(save(model, tmp_path), {"layers": 2}).layers[0].target == 2

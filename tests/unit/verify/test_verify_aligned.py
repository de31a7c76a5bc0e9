"""Which dims an alignment keeps from being held against the source by the method's operator."""

from __future__ import annotations

from pathlib import Path

from bot_onnx import api
from tests.graphs import residual_mlp_model, save


def test_selecting_neurons_leaves_hidden_to_the_operator(tmp_path: Path) -> None:
    source = save(residual_mlp_model(hidden=16), tmp_path)
    report = api.resize(source, {"hidden": 8}, tmp_path / "out.onnx", align="select").report
    (check,) = (check for check in report.checks if check.name == "comparison")
    assert check.status == "info" and "another basis" not in check.detail and "cosine" in check.detail

"""Verdicts on inputs and outputs that belong to layers: caches of heads x head_dim, states shown layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from bot_onnx import _engine, api
from bot_onnx._surgery.proven import Promise
from bot_onnx._verify import Check, VerifyReport
from bot_onnx.errors import VerifyError
from tests.graphs import save
from tests.system.oracle.sequence.graphs import cached_decoder, shown_states
from tests.verify_models import promising


def promise(monkeypatch: pytest.MonkeyPatch, factors: tuple[tuple[str, float], ...] = ()) -> None:
    """Plans promise to keep the outputs."""
    monkeypatch.setattr(_engine, "prepare", promising(Promise(kept=True, factors=factors)))


def comparison(report: VerifyReport) -> Check:
    return next(check for check in report.checks if check.name == "comparison")


@pytest.mark.parametrize("spec", [{"heads": 8, "hidden": 128}, {"heads": 8}, {"layers": 4}, {"layers": 5, "heads": 8}])
def test_caches_are_fed_and_compared(spec: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where layers were added, ports of the source's layers stand under new numbers, and the others are new."""
    promise(monkeypatch)
    source = save(cached_decoder(2), tmp_path)
    report = api.resize(source, spec, tmp_path / "out.onnx").report
    assert comparison(report).status == "pass"
    old = {0: 0, 1: spec["layers"] - spec["layers"] // 2} if "layers" in spec else {0: 0, 1: 1}
    kept = [f"present.{layer}.{kind}" for layer in old.values() for kind in ("key", "value")]
    assert [entry.output for entry in report.comparisons] == ["y", *kept]
    assert comparison(api.verify(tmp_path / "out.onnx", against=source)).status == "pass"


def test_cached_keys_have_the_factor_that_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys take their part of the change from 1/√8 to 1/√16: they are kept times (8/16)^¼, fed and shown."""
    source, spec = save(cached_decoder(2), tmp_path), {"head_dim": 16}
    promise(monkeypatch)
    with pytest.raises(VerifyError, match=r"output 'present\.0\.key' is off by"):
        api.resize(source, spec, tmp_path / "out.onnx")
    for ports in (("past", "present"), ("present",)):  # without a word on them, past keys are fed as zeros
        names = [f"{port}.{layer}.key" for port in ports for layer in range(2)]
        promise(monkeypatch, tuple((name, (8 / 16) ** 0.25) for name in names))
        report = api.resize(source, spec, tmp_path / "out.onnx", force=True).report
        assert comparison(report).status == "pass"
        assert {entry.factor for entry in report.comparisons} == {1.0, (8 / 16) ** 0.25}


@pytest.mark.parametrize("spec", [{"layers": 6}, {"layers": 7, "hidden": 16}])
def test_shown_states_are_those_of_their_layers(
    spec: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise(monkeypatch)
    report = api.resize(save(shown_states(3), tmp_path), spec, tmp_path / "out.onnx").report
    assert comparison(report).status == "pass"
    assert len(report.comparisons) == len(shown_states(3).graph.output)


def test_a_cache_that_reads_another_layer_s_keys_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promise(monkeypatch)
    source, out = save(cached_decoder(2), tmp_path), tmp_path / "out.onnx"
    api.resize(source, {"heads": 8}, out)
    model = onnx.load(out)
    swapped: dict[str, Any] = {"past.0.key": "past.1.key", "past.1.key": "past.0.key"}
    for node in model.graph.node:
        if node.op_type == "Concat":
            node.input[:] = [swapped.get(name, name) for name in node.input]
    onnx.save(model, out)
    check = comparison(api.verify(out, against=source))
    assert check.status == "fail" and "'present.0.key' is off by" in check.detail

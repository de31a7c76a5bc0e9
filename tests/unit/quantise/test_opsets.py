"""Calibrated scales in files of older opsets, which have no scales by channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx._verify.runner import Runner
from tests.graphs import GraphBuilder, save


def convolutions(opset: int) -> onnx.ModelProto:
    b = GraphBuilder(4)
    x = "x"
    for inner, outer in ((2, 8), (8, 8)):
        x = b.op("Relu", b.op("Conv", x, b.weight(outer, inner, 3, 3), b.weight(outer), pads=[1, 1, 1, 1]))
    model = b.model([("x", ["batch", 2, 6, 6])], [x], rank=4)
    model.opset_import[0].version = opset
    return model


@pytest.mark.parametrize(("opset", "by_channel"), [(11, False), (12, False), (13, True), (17, True)])
def test_scales_by_channel_are_those_of_the_opset(opset: int, by_channel: bool, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=x)
    source, packed = save(convolutions(opset), tmp_path), tmp_path / "packed.onnx"
    done = bot_onnx.quantize(source, packed, to="int8", calibration=tmp_path / "samples.npz")
    onnx.checker.check_model(onnx.load(packed), full_check=True)
    assert any("one scale" in note for note in done.notes) is not by_channel
    wanted, found = (session(str(path)).run(None, {"x": x})[0] for path in (source, packed))
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.99


def test_what_cannot_be_fed_its_weights_is_run_from_the_file_that_has_no_name_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some ops want their weights constant: the file itself is opened then, before it is given its name."""

    def refused(_runner: Runner) -> None:
        raise RuntimeError("must be a constant")

    monkeypatch.setattr(Runner, "_mapped", refused)
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32))
    packed = tmp_path / "packed.onnx"
    bot_onnx.quantize(save(convolutions(17), tmp_path), packed, to="int8", calibration=tmp_path / "samples.npz")
    small = tmp_path / "small.onnx"
    bot_onnx.resize(packed, {"width": 0.5}, small, requantize=True)
    assert packed.stat().st_size and small.stat().st_size

"""Scales of a Resize are no parameter: they stay out of an export, whatever they are put together by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import CheckpointError
from tests.graphs import GraphBuilder


def upsampler(*, joined: bool = False, also_multiplied: bool = False) -> onnx.ModelProto:
    """A convolution, an upsampling by scales, another convolution."""
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(8, 3, 3, 3, name="a.weight"), b.weight(8, name="a.bias"), pads=[1, 1, 1, 1])
    ones, twos = np.ones(2, np.float32), np.full(2, 2, np.float32)
    if joined:
        scales = b.op("Concat", b.constant(ones, "onnx::Concat_1"), b.constant(twos, "onnx::Concat_2"), axis=0)
    else:
        scales = b.constant(np.concatenate([ones, twos]), "val_0")
    x = b.op("Resize", x, "", scales, mode="nearest")
    x = b.op("Conv", x, b.weight(4, 8, 1, 1, name="o.weight"))
    if also_multiplied:
        x = b.op("Mul", b.op("Transpose", x, perm=[0, 2, 3, 1]), scales)
    return b.model([("x", ["n", 3, 8, 8])], [x], rank=4)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("joined", [False, True])
def test_scales_are_left_out(tmp_path: Path, joined: bool) -> None:
    path = saved(tmp_path, upsampler(joined=joined))
    assert list(bot_onnx.state_dict(path)) == ["a.weight", "a.bias", "o.weight"]
    transfer = bot_onnx.export_weights(path, tmp_path / "w.safetensors")
    assert len(transfer.left_out) == (2 if joined else 1)
    back = bot_onnx.import_weights(path, tmp_path / "w.safetensors", tmp_path / "back.onnx")
    assert len(back.entries) == 3


def test_a_tensor_that_is_multiplied_too_is_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="val_0"):
        bot_onnx.state_dict(saved(tmp_path, upsampler(also_multiplied=True)))

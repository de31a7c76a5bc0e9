"""Alignment ``auto`` takes no decision that the weights could undo."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import bot_onnx
from bot_onnx.errors import ResampleError
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter


def test_a_head_without_a_bias_under_a_norm_with_one_is_turned(tmp_path: Path) -> None:
    model = onnx.load(cached_export("vit", base_size("vit"), "torchscript17"))
    head = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
    del head.input[2]
    path = tmp_path / "headless.onnx"
    onnx.save(model, path)
    result = bot_onnx.resize(path, {"hidden": 32, "heads": 2}, tmp_path / "small.onnx")
    assert result.report.passed
    assert result.plan.align == "rotate"


def test_a_turn_that_would_break_a_promise_is_refused(tmp_path: Path) -> None:
    """BERT's norms stand on the stream: at its own size a turn changes what it computes, and gains nothing."""
    source, out = cached_export("bert", base_size("bert"), "torchscript17"), tmp_path / "same.onnx"
    with pytest.raises(ResampleError, match="leave --align out"):
        bot_onnx.resize(source, {"layers": base_size("bert").layers}, out, align="rotate")
    assert not out.exists()

"""onnxruntime's MoE: hidden and intermediate change, growth is exact, a native graph computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import bot_onnx
from bot_onnx.errors import BotError
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

EXPERTS, HIDDEN, INNER, LAYERS = 4, 16, 24, 2


def routed(form: str, hidden: int = HIDDEN, inner: int = INNER, layers: int = LAYERS, seed: int = 0) -> onnx.ModelProto:
    """Residual layers of experts behind a projection; ``form``: an activation, or how a gate is packed."""
    b = GraphBuilder(seed)
    x = b.op("MatMul", "x", b.weight(5, hidden))
    gated = form in ("halves", "turns")
    wide = 2 * inner if gated else inner
    attributes = {"activation_type": "swiglu" if gated else form}
    if gated:
        attributes["swiglu_fusion"] = 2 if form == "halves" else 1  # type: ignore[assignment]
    for _ in range(layers):
        scores = b.op("MatMul", x, b.weight(hidden, EXPERTS))
        first = b.weight(EXPERTS, wide, hidden), b.weight(EXPERTS, wide)
        second = b.weight(EXPERTS, hidden, inner), b.weight(EXPERTS, hidden)
        made = b.op("MoE", x, scores, *first, *second, domain="com.microsoft", k=2, **attributes)
        x = b.op("Add", x, made)
    model = b.model([("x", ["rows", 5])], [b.op("MatMul", x, b.weight(hidden, 3))])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


@pytest.mark.parametrize("form", ["relu", "gelu", "halves", "turns"])
def test_resized_equals_native_and_growth_is_exact(form: str, tmp_path: Path) -> None:
    source, out = save(routed(form), tmp_path), tmp_path / "out.onnx"
    try:
        run_at_two_sizes(source)
    except Exception as error:  # the runtime has no such form here
        assert "swiglu" in str(error).lower() or "interleaved" in str(error).lower()
        with pytest.raises(BotError, match="MoE"):
            bot_onnx.resize(source, {"hidden": 32}, out)
        return
    dims = {dim.role: dim for dim in bot_onnx.inspect(source).structure.dims.values()}
    assert (dims["intermediate"].size, dims["experts"].size) == (INNER, EXPERTS)
    for hidden, inner, layers in ((8, 12, 1), (32, 48, 2), (16, 48, 3)):
        spec = {"hidden": hidden, "intermediate": inner, "layers": layers}
        assert bot_onnx.resize(source, spec, out, force=True).report.passed
        native = save(routed(form, hidden, inner, layers, seed=1), tmp_path, "native.onnx")
        theirs = transplant(analysis_of(out), analysis_of(native))
        assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= 1e-5
    result = bot_onnx.resize(source, {"width": 2.0}, out, force=True)
    assert result.plan.promise.kept
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-5


def test_the_number_of_experts_stays_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(BotError, match="picks among them by rank"):
        bot_onnx.resize(save(routed("relu"), tmp_path), {"dims": {"experts": 8}}, tmp_path / "out.onnx")


def test_packed_experts_are_refused_by_name(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(5, 32))
    scores = b.op("MatMul", x, b.weight(32, EXPERTS))
    packed = [b.constant(np.full((EXPERTS, 64, 16), 7, np.uint8)), b.constant(np.full((EXPERTS, 32, 32), 7, np.uint8))]
    made = b.op(
        "QMoE", x, scores, packed[0], b.weight(EXPERTS, 64), "", packed[1], b.weight(EXPERTS, 32),
        domain="com.microsoft", k=2, expert_weight_bits=4,
    )  # fmt: skip
    model = b.model([("x", ["rows", 5])], [b.op("MatMul", made, b.weight(32, 3))])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(BotError, match=r"QMoE|packed in a way"):
        bot_onnx.resize(save(model, tmp_path), {"hidden": 64}, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()

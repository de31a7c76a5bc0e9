"""What a refusal proposes would do no harm: vocabularies and outputs are never what another key meant."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from bot_onnx import api
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder


@pytest.mark.parametrize("inner", [False, True])
def test_only_inner_widths_are_proposed(tmp_path: Path, inner: bool) -> None:
    b = GraphBuilder()
    x = b.op("Gather", b.weight(50, 16), "ids")
    if inner:
        x = b.op("Relu", b.op("MatMul", x, b.weight(16, 48)))
    model = b.model([("ids", ["n"])], [b.op("MatMul", x, b.weight(48 if inner else 16, 5))], integer_inputs=["ids"])
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(SpecError, match="no dim of this graph carries the role") as caught:
        api.plan(path, {"intermediate": 32})
    proposed = str(caught.value).partition("Drop the key")[2]
    assert "vocab" not in proposed and "out" not in proposed.replace("without", "")
    assert "free are" in proposed or "no inner width" in proposed

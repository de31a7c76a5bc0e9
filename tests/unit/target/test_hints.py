"""What a refusal proposes would do no harm: vocabularies and outputs are never what another key meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bot_onnx import api
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save


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


def mel(filters: bool, vocab: bool = False) -> onnx.ModelProto:
    """Sounds in windows times a table of cosines, and what mel filters make of that: nothing of it was trained."""
    b = GraphBuilder()
    steps = np.arange(64)
    cosines = np.cos(2 * np.pi * np.outer(np.arange(33), steps) / 64).astype(np.float32)[:, None]
    x = "x"
    if vocab:
        x = b.op("ReduceMean", b.op("Gather", b.weight(50, 64), "ids"), axes=[1])
    x = b.op("Conv", x, b.constant(cosines), strides=[16])
    x = b.op("Mul", x, x)
    if filters:
        x = b.op("MatMul", b.constant(np.tri(8, 33, dtype=np.float32)), x)
    if vocab:
        return b.model([("ids", ["n", "length"])], [x], rank=3, integer_inputs=["ids"])
    return b.model([("x", ["n", 1, "samples"])], [x], rank=3)


@pytest.mark.parametrize("filters", [False, True])
def test_where_nothing_can_change_no_way_is_shown(tmp_path: Path, filters: bool) -> None:
    source = save(mel(filters), tmp_path)
    assert all(dim.frozen for dim in api.inspect(source).structure.dims.values())
    with pytest.raises(SpecError, match="no dim that width scales") as caught:
        api.plan(source, {"width": 2})
    told = str(caught.value)
    assert "a constant table, no trained weight" in told and "'dims'" not in told and "drop" not in told


def test_what_can_change_is_named(tmp_path: Path) -> None:
    source = save(mel(filters=True, vocab=True), tmp_path)
    with pytest.raises(SpecError, match=r"size dims by name under 'dims': free are vocab \(50\)"):
        api.plan(source, {"width": 2})
    assert api.plan(source, {"dims": {"vocab": 60}})

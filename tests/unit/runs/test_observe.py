"""What is said where a model does not load."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from bot_onnx._runs import observe
from bot_onnx.errors import GraphError


def test_an_error_without_words_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])

    def silent(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(observe, "session", silent)
    with pytest.raises(GraphError, match=r"cannot load this model: MemoryError$"):
        observe.observe(ir.serde.deserialize_model(helper.make_model(graph)))

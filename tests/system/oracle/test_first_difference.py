"""What a failed comparison names: the value whose weight was spoilt, or a stretch that holds it, and never another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from tests.graphs import residual_mlp_model, save

ALL = {"hidden": 16}  # even copies: every value can be compared
UNEVEN: list[dict[str, Any]] = [{"hidden": 12}, {"hidden": 20, "intermediate": 40}, {"layers": 5}, {"intermediate": 24}]


def told(folder: Path, spec: dict[str, Any], place: int) -> tuple[str, str, list[str]]:
    """Grow a network and spoil one tensor; the node that reads it, what ``verify`` says, and all nodes in order."""
    source, out = save(residual_mlp_model(), folder), folder / "out.onnx"
    assert bot_onnx.resize(source, spec, out).plan.promise.kept
    model = onnx.load(out)
    tensor = model.graph.initializer[place]
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[: values.size // 2] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, out)
    spoilt = next(node.name for node in model.graph.node if tensor.name in node.input)
    failed = [check.detail for check in bot_onnx.verify(out, against=source).checks if check.status == "fail"]
    return spoilt, " ".join(failed), [node.name for node in model.graph.node]


@pytest.mark.parametrize("place", [0, 1, 3, 5, 7, 9, 14])
def test_the_spoilt_value_is_named(tmp_path: Path, place: int) -> None:
    spoilt, words, _ = told(tmp_path, ALL, place)
    assert f"(node {spoilt!r}), whose inputs agree" in words


@pytest.mark.thorough
@pytest.mark.parametrize("place", [0, 1, 3, 5, 7, 9, 14])
@pytest.mark.parametrize("spec", UNEVEN, ids=str)
def test_no_other_value_is_named(tmp_path: Path, spec: dict[str, Any], place: int) -> None:
    """Further channels, and layers that moved, leave values that cannot be compared: then a stretch is named."""
    spoilt, words, order = told(tmp_path, spec, place)
    if not words:  # a layer that was added and does nothing yet: its norm changes no output
        assert "layers" in spec
        return
    named = re.findall(r"\(node '(\w+)'\)", words)
    if "lies between" in words:
        assert order.index(named[0]) <= order.index(spoilt) <= order.index(named[1])
    else:
        assert named == [spoilt]


def test_values_of_dims_that_do_not_grow_are_named_beside_those_that_do(tmp_path: Path) -> None:
    spoilt, words, _ = told(tmp_path, {"hidden": 12}, 9)
    assert f"the first value that differs is 'matmul9', of MatMul (node {spoilt!r}), whose inputs agree" in words

"""A Gather that repeats an axis is written by sizes, and computes what it did; one that does not is left alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bot_onnx._canonical.normalise import normalise
from bot_onnx._canonical.spelling import spell_seen
from bot_onnx._runs.observe import observe
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder


def gathering(indices: Sequence[int], axis: int, *, opset: int = 17, shown: bool = False) -> onnx.ModelProto:
    """``x [batch, sequence, 6]`` as heads ``[batch, 3, sequence, 2]``, of which indices along an axis are gathered."""
    b = GraphBuilder()
    heads = b.op("Transpose", b.op("Reshape", "x", b.ints(0, 0, 3, 2)), perm=[0, 2, 1, 3])
    found = b.op("Gather", heads, b.ints(*indices), axis=axis)
    return b.model([("x", ["batch", "sequence", 6])], [found if shown else b.op("Neg", found)], opset=opset, rank=4)


def spelled(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.from_proto(model)
    normalise(made)
    spell_seen(made.graph, observe(made))
    return ir.to_proto(made)


def outputs(model: onnx.ModelProto) -> NDArray[np.float32]:
    x = np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)
    return np.asarray(session(model.SerializeToString()).run(None, {"x": x})[0])


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    ("indices", "axis", "written"),
    [
        ([0, 0, 1, 1, 2, 2], 1, ["Unsqueeze", "Expand", "Reshape"]),
        ([-3, -3, -2, -2, -1, -1], -3, ["Unsqueeze", "Expand", "Reshape"]),
        ([0, 0, 0, 1, 1, 1], 3, ["Unsqueeze", "Expand", "Reshape"]),
        ([0, 1, 2, 0, 1, 2], 1, ["Tile"]),
        ([0, 1, 0, 1], -1, ["Tile"]),
    ],
)
def test_a_repetition_is_written_by_sizes(
    indices: list[int], axis: int, written: list[str], opset: int, shown: bool
) -> None:
    model = gathering(indices, axis, opset=opset, shown=shown)
    made = spelled(model)
    assert [op for op in ops(made) if op in ("Gather", "Unsqueeze", "Expand", "Tile")] == written[:2]
    np.testing.assert_array_equal(outputs(made), outputs(model))


def test_all_in_order_is_nothing() -> None:
    made = spelled(gathering([0, 1, 2], 1))
    assert "Gather" not in ops(made)
    np.testing.assert_array_equal(outputs(made), outputs(gathering([0, 1, 2], 1)))


@pytest.mark.parametrize("indices", [[0, 0, 1, 2], [2, 1, 0], [0, 0, 1, 1], [0, 0, 2, 2, 1, 1], [0, 1]])
def test_a_choice_is_left_alone(indices: list[int]) -> None:
    assert "Gather" in ops(spelled(gathering(indices, 1)))


def test_rows_of_a_table_are_looked_up() -> None:
    b = GraphBuilder()
    rows = b.op("Gather", b.weight(3, 6), b.ints(0, 0, 1, 1, 2, 2), axis=0)
    model = b.model([("x", ["batch", 6, 6])], [b.op("Add", "x", rows)], rank=3)
    assert "Gather" in ops(spelled(model))

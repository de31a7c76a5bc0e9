"""A graph that a trace has tied to one length is run at that length; one that needs some length is given it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bot_onnx._analysis.passes import analyse
from bot_onnx._runs.baked_lengths import baked_lengths
from tests.graphs import GraphBuilder


def unrolled(steps: int, hidden: int = 8) -> onnx.ModelProto:
    """A loop over the sequence, unrolled: it takes each step by its number, and adds the input again in the end."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, hidden))
    state = b.op("Gather", x, b.constant(np.array(0)), axis=1)
    states = [state]
    for step in range(1, steps):
        state = b.op("Tanh", b.op("Add", state, b.op("Gather", x, b.constant(np.array(step)), axis=1)))
        states.append(state)
    joined = b.op("Concat", *(b.op("Unsqueeze", state, b.ints(1)) for state in states), axis=1)
    last = b.op("MatMul", b.op("Mul", joined, x), b.weight(hidden, 3))
    return b.model([("x", ["batch", "sequence", 4])], [last], rank=3)


@pytest.mark.parametrize("steps", [6, 9])
def test_a_loop_over_the_sequence_that_was_unrolled_is_analysed_at_its_length(steps: int) -> None:
    model = unrolled(steps)
    assert next(baked_lengths(model.graph)) == steps
    structure = analyse(ir.from_proto(model)).structure
    assert [dim.size for dim in structure.dims.values() if dim.frozen is None] == [8, 3]


def test_a_list_that_was_split_by_numbers_gives_the_length() -> None:
    b = GraphBuilder()
    flat = b.op("Reshape", b.op("MatMul", "x", b.weight(4, 8)), b.ints(-1, 8))
    twice = b.op("Concat", flat, flat, axis=0)
    split = b.op("Split", twice, b.ints(5, 13), axis=0, outputs=2)
    made = b.op("Concat", f"{split}.1", split, axis=0)
    model = b.model([("x", ["batch", "sequence", 4])], [b.op("MatMul", made, b.weight(8, 3))])
    hidden = [dim for dim in analyse(ir.from_proto(model)).structure.dims.values() if dim.size == 8]
    assert len(hidden) == 1 and hidden[0].frozen is None


def test_a_sequence_that_strided_convolutions_shorten_is_made_long_enough() -> None:
    b = GraphBuilder()
    x = b.op("Transpose", "x", perm=[0, 2, 1])
    for size, channels in ((4, 8), (8, 8)):
        x = b.op("Relu", b.op("Conv", x, b.weight(channels, size, 5), strides=[2]))
    model = b.model([("x", ["batch", "time", 4])], [x], rank=3)
    structure = analyse(ir.from_proto(model)).structure
    assert [dim.size for dim in structure.dims.values() if dim.frozen is None] == [8, 8]

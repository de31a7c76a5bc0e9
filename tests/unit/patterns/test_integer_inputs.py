"""What a table is for follows from who names its rows: tokens that the caller gives, or places that are computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import BotError
from tests.graphs import GraphBuilder, save

ROWS = 21


def last_of(b: GraphBuilder) -> str:
    return b.op("Gather", "ids", b.constant(np.array(-1)), axis=1)


def tail_of(b: GraphBuilder) -> str:
    return b.op("Slice", "ids", b.ints(-2), b.ints(99), b.ints(1))


def behind_a_start(b: GraphBuilder) -> str:
    """Every text moved one place on, behind the token that starts it."""
    texts = b.op("Slice", b.op("Shape", "ids"), b.ints(0), b.ints(1))
    first = b.op("Expand", b.constant(np.array([[7]])), b.op("Concat", texts, b.ints(1), axis=0))
    return b.op("Concat", first, b.op("Slice", "ids", b.ints(0), b.ints(-1), b.ints(1)), axis=1)


def places(b: GraphBuilder) -> str:
    """0, 1, 2 … as far as the text is long."""
    length = b.op("Squeeze", b.op("Slice", b.op("Shape", "ids"), b.ints(1), b.ints(2)))
    line = b.op("Range", b.constant(np.array(0)), length, b.constant(np.array(1)))
    return b.op("Expand", line, b.op("Shape", "ids"))


def codes(b: GraphBuilder) -> str:
    """The class of every token, as a table has it."""
    return b.op("Gather", b.constant(np.arange(50) % ROWS), "ids")


def network(indices: str, b: GraphBuilder, hidden: int = 8) -> onnx.ModelProto:
    x = b.op("Gather", b.weight(ROWS, hidden), indices)
    for _ in range(2):
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(hidden, 10))), b.weight(10, hidden)))
    return b.model([("ids", ["n", "length"])], [b.op("MatMul", x, b.weight(hidden, 5))], integer_inputs=["ids"])


@pytest.mark.parametrize("chosen", [last_of, tail_of, behind_a_start])
def test_some_of_the_tokens_given_are_tokens(chosen: Callable[[GraphBuilder], str], tmp_path: Path) -> None:
    b = GraphBuilder()
    source, out = save(network(chosen(b), b), tmp_path), tmp_path / "out.onnx"
    [rows] = [dim for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == ROWS]
    assert (rows.role, rows.frozen) == ("vocab", None)
    result = bot_onnx.resize(source, {"vocab": 30, "hidden": 16}, out, method="net2net")
    assert result.report.passed and result.plan.promise.kept


@pytest.mark.parametrize("computed", [places, codes])
def test_what_is_computed_is_no_token(computed: Callable[[GraphBuilder], str], tmp_path: Path) -> None:
    b = GraphBuilder()
    source = save(network(computed(b), b), tmp_path)
    assert "vocab" not in {dim.role for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == ROWS}
    with pytest.raises(BotError, match="no dim of this graph carries the role"):
        bot_onnx.plan(source, {"vocab": 30})

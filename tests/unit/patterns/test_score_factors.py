"""Which scalars are factors of attention scores: those of all queries or keys, not of what an adapter adds to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import GraphBuilder, save

HEADS, HEAD_DIM, HIDDEN, RANK = 4, 4, 16, 2


def attention(
    *, adapter: float | None, scaled: str = "scores", shape: tuple[int, ...] = (), factor: float = HEAD_DIM**-0.5
) -> onnx.ModelProto:
    """Two layers; ``adapter``: a low-rank map is added to the queries, times this number.

    ``scaled``: where 1 / √head_dim stands: at the scores, the queries, or each of the two summands of these.
    ``shape``: how often it stands in the file. ``factor``: another one.
    """
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, HIDDEN))

    def scale(value: str, here: str) -> str:
        return b.op("Mul", value, b.constant(np.full(shape, factor, np.float32))) if scaled == here else value

    def split(value: str) -> str:
        return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, HEADS, HEAD_DIM)), perm=[0, 2, 1, 3])

    for _ in range(2):
        q, k, v = (b.op("MatMul", x, b.weight(HIDDEN, HIDDEN)) for _ in range(3))
        q = scale(q, "summands")
        if adapter is not None:
            added = b.op("MatMul", b.op("MatMul", x, b.weight(HIDDEN, RANK)), b.weight(RANK, HIDDEN))
            q = b.op("Add", q, scale(b.op("Mul", added, b.constant(np.float32(adapter))), "summands"))
        q, k, v = split(scale(q, "queries")), split(k), split(v)
        scores = scale(b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), "scores")
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = b.op("Add", x, b.op("MatMul", b.op("Reshape", mixed, b.ints(0, 0, HIDDEN)), b.weight(HIDDEN, HIDDEN)))
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(HIDDEN, 5))], rank=3)


@pytest.mark.parametrize("scaled", ["scores", "queries", "summands"])
@pytest.mark.parametrize("adapter", [4.0, 2.0, 1.7])
def test_an_adapters_factor_stays(adapter: float, scaled: str, tmp_path: Path) -> None:
    """Also where it is head_dim, or its root: what the network computes is kept."""
    source, out = save(attention(adapter=adapter, scaled=scaled), tmp_path), tmp_path / "out.onnx"
    plan = bot_onnx.resize(source, {"head_dim": 16}, out).plan
    assert plan.promise.kept is True, plan.promise.why
    factors = {(edit.old, edit.new) for edit in plan.constants if edit.edit == "SetFactor"}
    assert factors == {(0.5, 0.25)}
    numbers = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer]
    assert sum(one.size == 1 and np.isclose(one, adapter).all() for one in numbers) == 2


@pytest.mark.parametrize("scaled", ["scores", "queries"])
def test_a_factor_of_all_queries_follows_head_dim(scaled: str, tmp_path: Path) -> None:
    plan = bot_onnx.plan(save(attention(adapter=None, scaled=scaled), tmp_path), {"head_dim": 2})
    factors = [(edit.old, edit.new) for edit in plan.constants if edit.edit == "SetFactor"]
    assert factors == [(0.5, pytest.approx(2**-0.5))] * 2


@pytest.mark.parametrize(("scaled", "shape"), [("scores", (1, HEADS, 1, 1)), ("queries", (HIDDEN,))])
@pytest.mark.parametrize("head_dim", [2, 16])
def test_a_factor_that_stands_there_for_every_channel_is_one(
    head_dim: int, scaled: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    source, out = save(attention(adapter=None, scaled=scaled, shape=shape), tmp_path), tmp_path / "out.onnx"
    plan = bot_onnx.resize(source, {"head_dim": head_dim}, out).plan
    factors = [(edit.old, edit.new) for edit in plan.constants if edit.edit == "SetFactor"]
    assert factors == [(0.5, pytest.approx(head_dim**-0.5))] * 2
    assert plan.promise.kept is (head_dim > HEAD_DIM)


def test_it_keeps_its_number_where_head_dim_does(tmp_path: Path) -> None:
    source, out = save(attention(adapter=None, shape=(1, HEADS, 1, 1)), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"heads": 2}, out)
    held = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer]
    factors = [one for one in held if one.ndim == 4]
    assert [one.shape for one in factors] == [(1, 2, 1, 1)] * 2
    assert all(np.all(one == np.float32(0.5)) for one in factors)


def test_one_that_no_formula_explains_may_be_learned(tmp_path: Path) -> None:
    """A network may begin with one temperature for all heads: nothing is asked, and ``constants`` can say."""
    source = save(attention(adapter=None, shape=(1, HEADS, 1, 1), factor=0.3), tmp_path)
    assert not [edit for edit in bot_onnx.plan(source, {"head_dim": 2}).constants if edit.edit == "SetFactor"]
    names = [node.name for node in onnx.load(source).graph.node if node.op_type == "Mul"]
    given = {"head_dim": 2, "constants": dict.fromkeys(names, "0.6/sqrt(head_dim)")}
    factors = [edit.new for edit in bot_onnx.plan(source, given).constants if edit.edit == "SetFactor"]
    assert factors == [pytest.approx(0.6 / 2**0.5)] * 2
    with pytest.raises(bot_onnx.SpecError, match="name the nodes of all layers"):
        bot_onnx.plan(source, {"head_dim": 2, "constants": {names[0]: 0.5}})

"""Layers that take turns in what they do: the chain counts turns, and everything that prints the number says so."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import bot_onnx
from bot_onnx._patterns.mixed_layers import Kind, layers_in_turn
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save

A: Kind = (0, ((8, 8), (8, 8)))
LOCAL: Kind = (1, ((8, 8), (8, 8)))
MLP: Kind = (2, ((8, 32), (32, 8)))
EXPERTS: Kind = (3, ((4, 8, 32), (4, 32, 8)))
NORM: Kind = (4, ())
CROSS: Kind = (5, ((8, 8), (8, 8)))


@pytest.mark.parametrize(
    ("kinds", "turns"),
    [
        ([A, MLP, LOCAL, MLP], 2),
        ([A, MLP, A, EXPERTS], 2),
        ([LOCAL, MLP] * 5 + [A, MLP], 6),
        ([A, LOCAL], 2),  # attention and MLP side by side
        ([A, MLP], 1),
        ([A, NORM, MLP, NORM], 1),  # post-norm
        ([A, CROSS, MLP], 1),  # a decoder's
        ([MLP, A, LOCAL, MLP], 1),  # two halves of an MLP around the rest
        ([A], 1),
    ],
)
def test_a_turn_is_told_by_weights_that_come_again(kinds: list[Kind], turns: int) -> None:
    assert layers_in_turn(kinds) == turns


def network(kinds: str) -> onnx.ModelProto:
    """Residual layers of two branches each; the first branch has the activation that a letter says."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(3, 8))
    for kind in kinds:
        for activation in ({"l": "Sigmoid", "g": "Tanh"}[kind], "Relu"):
            inner = 8 if activation != "Relu" else 16
            h = b.op(activation, b.op("MatMul", x, b.weight(8, inner)))
            x = b.op("Add", x, b.op("MatMul", h, b.weight(inner, 8)))
    return b.model([("x", ["batch", 3])], [b.op("MatMul", x, b.weight(8, 2))], rank=2)


def test_turns_are_told_where_the_number_is_printed_or_taken(tmp_path: Path) -> None:
    source = save(network("lglg"), tmp_path)
    structure = bot_onnx.inspect(source).structure
    (chain,) = structure.chains
    assert (chain.count, chain.within) == (2, 2)
    assert any("(2 turns of 2, 4 in all): 'layers' counts turns" in note for note in structure.notes)
    for layers, told in (
        (2, "stays at 2 turns of 2, 4 in all"),
        (3, "2 turns of 2, 4 in all -> 3 turns of 2, 6 in all"),
    ):
        plan = bot_onnx.resize(source, {"layers": layers}, tmp_path / "out.onnx", force=True).plan
        assert any(f"'layers' counts turns of chain '{chain.name}'" in note and told in note for note in plan.notes)
    with pytest.raises(SpecError, match=r"\(2 turns of 2, 4 in all\)"):
        bot_onnx.plan(source, {"layers": [1, 1]})


def test_layers_that_are_alike_are_counted_one_by_one(tmp_path: Path) -> None:
    structure = bot_onnx.inspect(save(network("llll"), tmp_path)).structure
    assert [(chain.count, chain.within) for chain in structure.chains] == [(4, 1)]
    assert not structure.notes

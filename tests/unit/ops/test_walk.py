"""The ways through a graph: back along the data, back to everything, on to the readers."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from bot_onnx._ops.walk import backward, behind, forward, producer_chain, uses


@pytest.fixture
def values() -> dict[str, ir.Value]:
    """``a = Cast(x)``, ``b = Neg(a)``, ``c = Add(b, a)``, ``d = Mul(c, w)``, ``e = Neg(d)``, ``f = Cast(a)``."""
    found = {name: ir.Value(name=name) for name in "xwabcdef"}
    for op, inputs, output in (
        ("Cast", "x", "a"),
        ("Neg", "a", "b"),
        ("Add", "ba", "c"),
        ("Mul", "cw", "d"),
        ("Neg", "d", "e"),
        ("Cast", "a", "f"),
    ):
        ir.Node("", op, [found[name] for name in inputs], outputs=[found[output]])
    return found


def names(found: object) -> str:
    return "".join(value.name or "?" for value in found)  # type: ignore[attr-defined]


def one(*ops: str) -> object:
    return lambda node, *_: node.op_type in ops


def test_a_chain_follows_first_inputs_as_far_as_it_may(values: dict[str, ir.Value]) -> None:
    assert names(producer_chain(values["e"], one("Neg", "Mul"))) == "edc"  # type: ignore[arg-type]
    assert names(producer_chain(values["e"], lambda _: True)) == "edcbax"
    assert names(producer_chain(values["d"], one("Mul"), lambda node: node.inputs[1])) == "dw"  # type: ignore[arg-type]
    assert names(producer_chain(None, lambda _: True)) == ""


def test_behind_is_where_the_chain_ends(values: dict[str, ir.Value]) -> None:
    assert behind(values["e"], one("Neg", "Mul")) is values["c"]  # type: ignore[arg-type]
    assert behind(values["x"], lambda _: True) is values["x"]
    assert behind(values["e"], lambda _: True, lambda node: None) is None
    assert behind(None, lambda _: True) is None


def test_backward_meets_every_value_once_first_inputs_first(values: dict[str, ir.Value]) -> None:
    assert names(backward(values["e"], lambda _: True)) == "edcbaxw"
    assert names(backward([values["f"], None, values["b"]], lambda _: True)) == "faxb"
    assert names(backward(values["e"], one("Neg", "Mul"))) == "edcw"  # type: ignore[arg-type]
    assert names(backward(values["d"], lambda _: True, lambda node: node.inputs[1:])) == "dw"
    assert names(backward(values["e"], lambda _: True, most=3)) == "edc"


def test_forward_meets_what_is_made_of_a_value(values: dict[str, ir.Value]) -> None:
    assert sorted(names(forward(values["a"], lambda *_: True))) == list("abcdef")
    assert sorted(names(forward(values["a"], one("Neg", "Cast")))) == list("abf")  # type: ignore[arg-type]
    assert sorted(names(forward([values["b"], values["w"]], lambda node, slot: slot == 1))) == list("bdw")
    assert len(list(forward(values["x"], lambda *_: True, most=2))) == 2


def test_uses_are_those_that_the_walk_does_not_go_through(values: dict[str, ir.Value]) -> None:
    found = [(node.op_type, slot) for node, slot in uses(values["x"], one("Cast", "Neg"))]  # type: ignore[arg-type]
    assert sorted(found) == [("Add", 0), ("Add", 1)]
    assert list(uses(values["x"], lambda *_: True)) == []

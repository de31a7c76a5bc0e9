"""Depth: how ``layers`` goes to the chains."""

from __future__ import annotations

from typing import Any

import pytest

from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Chain, Dim, Stack, Structure
from bot_onnx._target import TargetSpec, solve
from bot_onnx.errors import SpecError, said


def graph(*chains: Chain, attention: str | None = None) -> Structure:
    dims = {
        "d0": Dim("d0", "heads", 2, "leaf", (), "heads", None, ()),
        "d1": Dim("d1", "head_dim", 4, "leaf", (), "head_dim", None, ()),
        "d2": Dim("d2", "attention", 8, "product", ("d0", "d1"), "free", None, ()),
        "d3": Dim("d3", "channels", 8, "leaf", (), "free", None, ()),
    }
    stacks = [
        Stack(f"s{number}", "w", name, ("w",), "FLOAT", (ident, None), (8, 1), "matrix", ("out", "in"))
        for number, (name, ident) in enumerate([(attention, "d2"), ("features", "d3"), (None, "d2")])
    ]
    return Structure(dims, chains, tuple(stacks) if attention else ())


STAGES = Reason(Why.STAGES, sizes=((8, 4), (4, 2)))


def chain(name: str, count: int, resizable: Reason | None = None) -> Chain:
    return Chain(name, count, 1, 10, resizable)


ENCODER, DECODER = chain("encoder", 12), chain("decoder", 6)


@pytest.mark.parametrize(
    ("chains", "layers", "expected"),
    [
        ((ENCODER,), 3, {"encoder": 3}),
        ((ENCODER,), 24, {"encoder": 24}),
        ((ENCODER, chain("decoder", 12)), 3, {"encoder": 3, "decoder": 3}),
        ((ENCODER, DECODER), [3, 2], {"encoder": 3, "decoder": 2}),
        ((ENCODER, DECODER), {"decoder": 2}, {"encoder": 12, "decoder": 2}),
        ((ENCODER, chain("stem", 3, STAGES)), [6, 3], {"encoder": 6, "stem": 3}),
        ((ENCODER,), None, {"encoder": 12}),
    ],
)
def test_forms(chains: tuple[Chain, ...], layers: Any, expected: dict[str, int]) -> None:
    assert solve(graph(*chains), TargetSpec(layers=layers)).layers == expected


def test_one_number_skips_a_chain_that_cannot_change() -> None:
    solution = solve(graph(chain("stem", 3, STAGES), ENCODER), TargetSpec(layers=6))
    assert solution.layers == {"stem": 3, "encoder": 6}
    assert solution.notes == ("chain stem stays at 3 layers: " + said(STAGES) + ".",)


def test_one_number_goes_to_attention_among_unequal_chains() -> None:
    solution = solve(graph(chain("features", 5), ENCODER, attention="encoder"), TargetSpec(layers=6))
    assert solution.layers == {"features": 5, "encoder": 6}
    assert "chains that hold attention: encoder" in solution.notes[0]


@pytest.mark.parametrize(
    ("chains", "layers", "message"),
    [
        ((), 3, "no repeated layers"),
        ((ENCODER, DECODER), 3, r'could mean any.*encoder \(12\), decoder \(6\).*"layers": {"encoder": 3'),
        ((ENCODER, DECODER), [3], r"1 numbers for 2 chains.*encoder \(12\), decoder \(6\)"),
        ((ENCODER,), {"encodr": 3}, r"layers\.encodr.*did you mean 'encoder'"),
        ((chain("stem", 3, STAGES),), 2, "keeps its 3 layers, 2 cannot be had: its layers change the shape"),
        ((chain("stem", 3, STAGES),), {"stem": 2}, "each is a stage of its own"),
        ((chain("stem", 3, STAGES), ENCODER), [2, 6], "each is a stage of its own"),
    ],
)
def test_refusals(chains: tuple[Chain, ...], layers: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        solve(graph(*chains), TargetSpec(layers=layers))

"""Formulas for constants."""

from __future__ import annotations

import math

import pytest

from bot_onnx._structure import Dim, Structure
from bot_onnx._target import evaluate, size_names
from bot_onnx._target.formula import names_in
from bot_onnx.errors import SpecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (3, 3.0),
        ("0.5", 0.5),
        ("1/sqrt(head_dim*3)", 1 / math.sqrt(192)),
        ("-head_dim ** -0.25", -(64**-0.25)),
        ("(hidden - 2) / (+heads)", 766 / 12),
        ("log(hidden) + exp(0)", math.log(768) + 1),
    ],
)
def test_values(text: str | float, value: float) -> None:
    assert evaluate(text, {"head_dim": 64, "hidden": 768, "heads": 12}) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1/sqrt(head_dims)", "no dim is called 'head_dims'; did you mean 'head_dim'"),
        ("1/(head_dim-64)", "has no value here"),
        ("sqrt(0-head_dim)", "has no value here"),
        ("10**400", "has no value here"),
        ("1e308*10", "gives inf"),
        ("1/", "cannot be read"),
        ("", "cannot be read"),
        ("__import__('os')", "is not allowed"),
        ("head_dim.real", "is not allowed"),
        ("'a'", "is not allowed"),
        ("True", "is not allowed"),
        ("sqrt(1, 2)", "is not allowed"),
        ("head_dim % 3", "is not allowed"),
        ("[x for x in y]", "is not allowed"),
        ("(" * 600, "characters"),
        ("(" * 300 + "1" + ")" * 190, "cannot be read"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        evaluate(text, {"head_dim": 64})


def test_names() -> None:
    assert names_in("1/sqrt(head_dim*d3)") == {"head_dim", "d3"}
    dims = {
        "d0": Dim("d0", "hidden", 8, "leaf", (), "hidden", None, ()),
        "d1": Dim("d1", "dim_4", 4, "leaf", (), "head_dim", None, ()),
    }
    structure = Structure(dims, (), ())
    assert size_names(structure) == {"d0": 8, "hidden": 8, "d1": 4, "dim_4": 4, "head_dim": 4}
    assert size_names(structure, {"d0": 4, "d1": 2})["head_dim"] == 2

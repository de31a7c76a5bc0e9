"""Sizes for open axes: related lengths are found, formulas among the symbols are computed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._runs.inputs import open_sizes

IDS, FLOATS = np.dtype(np.int64), np.dtype(np.float32)


def decoder(mask: str) -> list[InputSpec]:
    return [
        InputSpec("ids", IDS, ("batch", "sequence")),
        InputSpec("mask", IDS, ("batch", mask)),
        *(InputSpec(f"past.{n}", FLOATS, ("batch", 4, "past", 8)) for n in range(2)),
    ]


def test_a_length_that_is_the_sum_of_two_others_is_among_the_first_guesses() -> None:
    guesses = list(islice(open_sizes(decoder("total")), 4))
    right = [pair for pair in guesses if all(run["total"] == run["past"] + run["sequence"] for run in pair)]
    assert right
    assert all(first[symbol] != second[symbol] for first, second in right for symbol in first)


def test_a_length_that_is_one_more_than_another_is_guessed() -> None:
    specs = [InputSpec("ids", IDS, ("batch", 1)), *decoder("total")[1:]]
    assert any(all(run["total"] == run["past"] + 1 for run in pair) for pair in open_sizes(specs))


@pytest.mark.parametrize("symbol", ["past + sequence", "past+sequence", "sequence+ past"])
def test_a_symbol_that_is_a_formula_is_computed_from_the_first_guess_on(symbol: str) -> None:
    for run in next(open_sizes(decoder(symbol))):
        assert run[symbol] == run["past"] + run["sequence"]
        assert len({run["batch"], run["past"], run["sequence"]}) == 3


def test_every_symbol_differs_between_the_runs_until_the_last_guess() -> None:
    pairs = list(open_sizes(decoder("total")))
    assert all(first[symbol] != second[symbol] for first, second in pairs[:-1] for symbol in first)

"""The ranking, and what is told of it."""

from __future__ import annotations

from bot_onnx._sweep.job import _ranked, without_effect
from bot_onnx._sweep.types import Combination, Outcome, Trial


def trial(number: int, outcome: Outcome, spec: str = "a", **options: str) -> Trial:
    return Trial(number, Combination(spec, "bot", options), outcome)


def test_best_first_then_the_smaller_then_the_earlier_then_what_has_no_score() -> None:
    trials = [
        trial(0, Outcome("failed", reason="x")),
        trial(1, Outcome("refused", reason="x")),
        trial(2, Outcome("scored", -1.0, size_bytes=5)),
        trial(3, Outcome("scored", 2.0, size_bytes=9)),
        trial(4, Outcome("scored", 2.0, size_bytes=5)),
        trial(5, Outcome("scored", 2.0, size_bytes=5)),
    ]
    assert [found.number for found in _ranked(trials, minimize=False)] == [4, 5, 3, 2, 1, 0]
    assert [found.number for found in _ranked(trials, minimize=True)] == [2, 4, 5, 3, 1, 0]


def test_an_option_that_makes_no_difference_is_told() -> None:
    same = [
        trial(n, Outcome("scored", {"a": 1.0, "b": 2.0}[spec]), spec, wavelet=wavelet)
        for n, (spec, wavelet) in enumerate([("a", "haar"), ("a", "db2"), ("b", "haar"), ("b", "db2")])
    ]
    [note] = without_effect(same, {"wavelet": ("haar", "db2")})
    assert note.startswith("Option wavelet made no difference")
    other = [*same[:3], trial(3, Outcome("scored", 2.5), "b", wavelet="db2")]
    assert without_effect(other, {"wavelet": ("haar", "db2")}) == []
    assert without_effect(same[::2], {"wavelet": ("haar",)}) == []

"""The ranking, and what is told of it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot_onnx._sweep.job import _digest, _ranked, _Run, without_effect
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


def test_data_of_the_same_length_are_other_data(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "one.png"
    file.write_bytes(b"cat")
    before = _digest(tmp_path), _digest(file)
    file.write_bytes(b"dog")
    assert not {_digest(tmp_path), _digest(file)} & {*before}
    file.write_bytes(b"cat")
    assert (_digest(tmp_path), _digest(file)) == before
    file.rename(file.with_name("two.png"))
    assert _digest(tmp_path) != before[0]


class Drawn:
    """A study that draws what it is given, and takes outcomes."""

    def __init__(self, *specs: str) -> None:
        self.left, self.told = list(enumerate(specs)), dict[int, Outcome]()

    def finished(self) -> list[Trial]:
        return []

    def ask(self) -> tuple[int, Combination]:
        number, spec = self.left.pop(0)
        return number, Combination(spec, "bot", {})

    def tell(self, number: int, outcome: Outcome) -> None:
        self.told[number] = outcome


class Hands:
    """Three workers, which finish what they began all at once."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, str]] = []
        self._open: list[int] = []

    def room(self) -> int:
        return 3 - len(self._open)

    def begin(self, number: int, combination: Combination) -> None:
        self.begun.append((number, combination.spec))
        self._open.append(number)

    def finished(self) -> list[tuple[int, Outcome]]:
        done, self._open = self._open, []
        return [(number, Outcome("scored", 1.0, seconds=2.0)) for number in done]


def test_what_is_drawn_again_while_it_runs_is_not_made_twice(tmp_path: Path, monkeypatch: Any) -> None:
    study, hands = Drawn("a", "a", "b", "a", "b", "c"), Hands()
    wanted = SimpleNamespace(
        count=6, jobs=3, scheduler=None, keep=None, output=None, scoring=SimpleNamespace(minimize=False)
    )
    task = SimpleNamespace(folder=str(tmp_path), name="model.onnx")
    monkeypatch.setattr("bot_onnx._sweep.job.workers", lambda *told, **more: nullcontext(hands))
    run = _Run(wanted, task, study, lambda *told: None)  # type: ignore[arg-type]
    run.work()
    assert sorted(spec for _, spec in hands.begun) == ["a", "b", "c"]
    assert sorted(study.told) == [0, 1, 2, 3, 4, 5]
    assert {number: outcome.seconds for number, outcome in study.told.items()} == {
        number: 2.0 if number in {n for n, _ in hands.begun} else 0.0 for number in range(6)
    }

"""The study: what a killed run had begun is begun again, once, and a study of something else is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot_onnx._sweep.space import Space
from bot_onnx._sweep.study import Study
from bot_onnx._sweep.types import Outcome, Sampler
from bot_onnx.errors import BotError

pytest.importorskip("optuna", reason="needs the extra 'sweep'")

GRID = Space(("a", "b"), ("bot", "front"), {"wavelet": ("haar", "db2")})


def opened(path: Path, space: Space = GRID, **asked: Any) -> Study:
    return Study(path / "s.db", {"source": "x", **asked}, space, minimize=False, seed=0, scratch=path)


@pytest.mark.thorough
def test_every_point_of_a_grid_once_however_often_it_is_killed(tmp_path: Path) -> None:
    """Each run finishes one trial, leaves one begun, and dies."""
    for _ in range(6):
        study = opened(tmp_path)
        number, _ = study.ask()
        study.tell(number, Outcome("scored", float(number)))
        if len(study.finished()) < len(GRID):
            study.ask()
        study.close()
    study = opened(tmp_path)
    done = [trial.combination.key for trial in study.finished()]
    study.close()
    assert len(done) == len(GRID) == 6 and len(set(done)) == 6


def test_two_that_were_running_are_both_begun_again(tmp_path: Path) -> None:
    study = opened(tmp_path)
    begun = {study.ask()[1].key for _ in range(2)}
    study.close()
    study = opened(tmp_path)
    assert {study.ask()[1].key for _ in range(2)} == begun
    rest = {study.ask()[1].key for _ in range(4)}
    study.close()
    assert len(rest | begun) == 6


def test_a_trial_killed_between_its_outcome_and_its_state_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(tmp_path)
    number, combination = study.ask()
    with monkeypatch.context() as patch:
        patch.setattr(study, "_close", lambda *told: None)
        study.tell(number, Outcome("scored", 0.5))
    assert study.finished() == []
    study.close()
    study = opened(tmp_path)
    [found] = study.finished()
    study.close()
    assert found.combination.key == combination.key and found.outcome.score == 0.5


def test_what_was_refused_or_failed_is_kept_with_its_reason(tmp_path: Path) -> None:
    study = opened(tmp_path)
    number, _ = study.ask()
    study.tell(number, Outcome("refused", reason="no such size"))
    study.close()
    study = opened(tmp_path)
    assert [trial.outcome for trial in study.finished()] == [Outcome("refused", reason="no such size")]
    study.close()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_that_goes_on_does_not_draw_the_same_again(tmp_path: Path, sampler: Sampler) -> None:
    space = Space(tuple("abcdefgh"), ("bot",), {"wavelet": tuple(f"w{n}" for n in range(20))}, sampler)
    drawn = []
    for _ in range(4):
        study = opened(tmp_path, space)
        number, combination = study.ask()
        study.tell(number, Outcome("scored", 0.0))
        study.close()
        drawn.append(combination.key)
    assert len(set(drawn)) > 1


def test_a_study_of_something_else_is_refused_by_what_differs(tmp_path: Path) -> None:
    opened(tmp_path, **{"--seed": 0}).close()
    opened(tmp_path, **{"--seed": 0}).close()
    with pytest.raises(BotError, match=r"s\.db is a study of another --seed:") as refused:
        opened(tmp_path, **{"--seed": 1})
    assert refused.value.alternatives == ("--seed",)


@pytest.mark.parametrize("content", [b"", b"a text", b"SQLite format 3\0" + bytes(100)])
def test_a_file_that_is_no_study_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(BotError, match=r"s\.db is no study"):
        opened(tmp_path)
    assert (tmp_path / "s.db").read_bytes() == content


def test_a_path_may_hold_any_characters(tmp_path: Path) -> None:
    folder = tmp_path / "100 % of a?b#c"
    folder.mkdir()
    study = opened(folder)
    number, _ = study.ask()
    study.tell(number, Outcome("scored", 1.0))
    study.close()
    study = opened(folder)
    assert len(study.finished()) == 1
    study.close()
    assert [path.name for path in folder.iterdir()] == ["s.db"] and [*tmp_path.iterdir()] == [folder]

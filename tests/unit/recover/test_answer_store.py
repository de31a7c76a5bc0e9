"""Answers of a teacher are kept whole or not at all, for no other teacher, and in no more room than was given."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from bot_onnx._recover.answer_store import AnswerStore, default_folder

ANSWER = {"y": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "flag": np.array([[True]])}


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_is_got_by_this_teacher_alone(tmp_path: Path) -> None:
    assert AnswerStore(tmp_path, "t", 1 << 20).put("ab12", ANSWER)
    found = AnswerStore(tmp_path, "t", 1 << 20).get("ab12")
    assert found is not None and found.keys() == ANSWER.keys()
    for name, array in ANSWER.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    assert AnswerStore(tmp_path, "t", 1 << 20).get("ab13") is None
    assert AnswerStore(tmp_path, "other", 1 << 20).get("ab12") is None


@pytest.mark.parametrize("length", [0, 10, 60, -1])
def test_an_entry_that_is_cut_or_changed_is_none(length: int, tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "t", 1 << 20)
    store.put("ab12", ANSWER)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    assert store.get("ab12") is None
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    assert store.get("ab12") is None
    store.put("ab12", ANSWER)
    assert store.get("ab12") is not None


def test_no_more_room_is_taken_than_was_given(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "t", 500)
    kept = [store.put(f"ab{number}", ANSWER) for number in range(10)]
    assert True in kept and False in kept
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 500
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x" * 1000)
    assert AnswerStore(tmp_path, "new", 500).put("ab1", ANSWER)  # the others' go, and what is no teacher's stays
    assert AnswerStore(tmp_path, "t", 500).get("ab0") is None
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    AnswerStore(tmp_path, "t", 1 << 20).put("ab12", ANSWER)
    (path,) = entries(tmp_path)
    part = path.with_name("12.99.part")
    part.write_bytes(b"half")
    AnswerStore(tmp_path, "t", 1 << 20).put("ab34", ANSWER)
    assert part.exists()  # another run may be writing it
    os.utime(part, (time.time() - 7200,) * 2)
    AnswerStore(tmp_path, "t", 1 << 20).put("ab56", ANSWER)
    assert not part.exists() and len(entries(tmp_path)) == 3


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = AnswerStore(tmp_path / "file", "t", 1 << 20)
    assert not store.put("ab12", ANSWER) and store.get("ab12") is None


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_ONNX_TEACHER_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.setenv("BOT_ONNX_TEACHER_CACHE", "")
    assert default_folder() is None
    monkeypatch.delenv("BOT_ONNX_TEACHER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "bot-onnx" / "teachers"

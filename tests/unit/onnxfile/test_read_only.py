"""What is said to be read is replaced by nothing, however deep what writes it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot_onnx._onnxfile.folder_output import check_folder
from bot_onnx._onnxfile.read_only import is_same, reading, refuse_source, source_of
from bot_onnx._onnxfile.writer import write_text
from bot_onnx.errors import OutputError


def test_what_is_read_is_refused_for_as_long_as_it_is(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.symlink_to(one)
    with reading(lambda: [one]):
        with reading(lambda: [tmp_path / "none"]):
            for path in (one, two):
                with pytest.raises(OutputError, match="is a source of this command"):
                    write_text(path, "2", force=True)
        write_text(tmp_path / "three", "3")
    assert one.read_text() == "1"
    write_text(one, "2", force=True)


def test_what_is_read_is_looked_for_only_where_something_could_be_lost(tmp_path: Path) -> None:
    asked: list[int] = []
    (tmp_path / "there").touch()
    with reading(lambda: asked.append(1) or []):  # type: ignore[func-returns-value]
        assert source_of(tmp_path / "new") is None and not asked
        assert source_of(tmp_path / "there") is source_of(tmp_path / "there") is None
        assert asked == [1]


def test_a_folder_that_is_read_may_take_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with reading(lambda: tmp_path.rglob("*")):
        refuse_source(tmp_path / "kept")


def test_a_folder_with_something_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tmp_path / "source"
    out.mkdir()
    (out / "config.json").touch()
    check_folder(out, force=True, apart_from=source, own={"config.json"})
    with reading(lambda: [out / "config.json"]), pytest.raises(OutputError, match="holds a source of this command"):
        check_folder(out, force=True, apart_from=source, own={"config.json"})


def test_one_file_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    assert is_same(tmp_path / "new", tmp_path / "inside" / ".." / "new")
    assert not is_same(tmp_path / "new", tmp_path / "inside" / "new")
    (tmp_path / "new").touch()
    (tmp_path / "hard").hardlink_to(tmp_path / "new")
    assert is_same(tmp_path / "hard", tmp_path / "new")

"""A folder appears whole or not at all, in place of another one as well, whenever the process is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot_onnx._onnxfile import folder_output
from bot_onnx._onnxfile.folder_output import StagedFolder, check_folder
from bot_onnx._onnxfile.journal import is_swapping
from bot_onnx._onnxfile.scratch import sweep
from bot_onnx.errors import OutputError

LINUX = pytest.mark.skipif(not os.path.exists("/proc/self"), reason="forks, and exchanges names in one step")
#: What changes names, or waits for the disk.
CALLS = ("rename", "replace", "mkdir", "rmdir", "unlink", "fsync")


def make(target: Path, text: str) -> None:
    staging = StagedFolder(target)
    with staging as folder:
        (folder / "onnx").mkdir()
        for name in ("config.json", "onnx/model.onnx"):
            (folder / name).write_text(text)
        staging.publish(over=True)


def held(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(text: str) -> dict[str, str]:
    return {"config.json": text, "onnx/model.onnx": text}


def killed(work: Callable[[], None], at: int) -> bool:
    """Do it in a process that is killed at the call ``at``; whether it came to that."""
    child = os.fork()
    if child == 0:
        count = 0

        def counting(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*given, **named)

            return counted

        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.thorough
@LINUX
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_kill_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, there: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(folder_output, "_exchanged", lambda *_: False)
    seen, at, target = set(), 0, tmp_path / "small"
    while True:
        at += 1
        if there:
            make(target, "old")
        stopped = killed(lambda: make(target, "new"), at)
        if exchange and there:
            assert held(target) in (whole("old"), whole("new"))
        sweep(tmp_path)
        found = held(target) if target.exists() else None
        assert found in ((whole("old") if there else None), whole("new"))
        assert sorted(path.name for path in tmp_path.iterdir()) == (["small"] if found else [])
        seen.add(None if found is None else found["config.json"])
        if not stopped:
            break
        if not there and found:
            shutil.rmtree(target)
    assert seen == {"old" if there else None, "new"} and at > 5


def test_an_old_folder_that_cannot_be_moved_back_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "small", "old")
    monkeypatch.setattr(folder_output, "_exchanged", lambda *_: False)
    rename, moves = os.rename, 0

    def once(old: Any, new: Any) -> None:
        nonlocal moves
        moves += 1
        if moves > 1:
            raise PermissionError(13, "no")
        rename(old, new)

    monkeypatch.setattr(os, "rename", once)
    with pytest.raises(OutputError, match="no"):
        make(tmp_path / "small", "new")
    monkeypatch.undo()
    (left,) = tmp_path.iterdir()
    assert is_swapping(left)
    sweep(tmp_path)
    assert held(tmp_path / "small") == whole("old") and len([*tmp_path.iterdir()]) == 1


def test_folders_above_are_made_and_go_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), StagedFolder(tmp_path / "a" / "b" / "c"):
        raise RuntimeError
    assert [*tmp_path.iterdir()] == []
    make(tmp_path / "a" / "b" / "c", "x")
    assert held(tmp_path / "a" / "b" / "c") == whole("x")


def test_a_name_that_is_taken_meanwhile(tmp_path: Path) -> None:
    staging = StagedFolder(tmp_path / "small")
    with staging:
        (tmp_path / "small").mkdir()
        (tmp_path / "small" / "theirs").write_text("kept")
        with pytest.raises(OutputError, match="exists already"):
            staging.publish(over=False)
    assert held(tmp_path) == {"small/theirs": "kept"}


@pytest.mark.parametrize(
    ("target", "force", "own", "match"),
    [
        ("source", True, None, "lie in, one another"),
        ("source/inside", False, None, "lie in, one another"),
        (".", True, None, "lie in, one another"),
        ("file", True, None, "is no folder"),
        ("link", True, None, "is no folder"),
        ("empty", False, None, "exists already"),
        ("full", False, {"one"}, "exists already"),
        ("full", True, None, "was not written by this tool"),
        ("full", True, {"two"}, "what this tool did not write"),
        ("full", True, {"one"}, None),
        ("empty", True, None, None),
        ("new", False, None, None),
    ],
)
def test_folders_that_may_not_be_replaced(
    tmp_path: Path, target: str, force: bool, own: set[str] | None, match: str | None
) -> None:
    for name in ("source", "empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full" / "one").touch()
    (tmp_path / "link").symlink_to("empty")
    checked = {"force": force, "apart_from": tmp_path / "source", "own": own}
    if match is None:
        check_folder(tmp_path / target, **checked)
    else:
        with pytest.raises(OutputError, match=match):
            check_folder(tmp_path / target, **checked)

"""A model and its data file as one: names after content, sharing, clearing, systems with less to offer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bot_onnx._onnxfile import atomic_output, journal, locks, scratch
from bot_onnx._onnxfile.data_files import data_name, locations
from bot_onnx._onnxfile.journal import Journal, settle
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import Scratch, sweep
from bot_onnx._onnxfile.writer import write_text
from bot_onnx.errors import GraphError, OutputError
from tests.unit.onnxfile.test_writer import listing, weights, write


def data_of(model: Path) -> Path:
    (name,) = locations(model)
    return model.with_name(name)


def other() -> dict[str, np.ndarray]:
    return weights() | {"w": -weights()["w"]}


def test_names_follow_content(tmp_path: Path) -> None:
    write(tmp_path / "a.onnx", external=True)
    first = data_of(tmp_path / "a.onnx").name
    write(tmp_path / "a.onnx", other(), external=True, force=True)
    assert data_of(tmp_path / "a.onnx").name != first
    write(tmp_path / "a.onnx", external=True, force=True)
    assert data_of(tmp_path / "a.onnx").name == first
    assert set(listing(tmp_path)) == {"a.onnx", first}


def test_a_mixture_is_refused_on_opening(tmp_path: Path) -> None:
    for name, arrays in (("a.onnx", weights()), ("b.onnx", other())):
        write(tmp_path / name, arrays, external=True)
    mine, theirs = data_of(tmp_path / "a.onnx"), data_of(tmp_path / "b.onnx")
    mine.write_bytes(theirs.read_bytes())
    digits = theirs.name.split(".")[-2]
    with pytest.raises(GraphError, match=rf"{mine.name}.*weights of another model \(SHA-256 {digits}"):
        open_model(tmp_path / "a.onnx")
    mine.unlink()
    with pytest.raises(GraphError, match="no such file"):
        open_model(tmp_path / "a.onnx")


def test_data_that_a_renamed_or_copied_model_reads_stay(tmp_path: Path) -> None:
    write(tmp_path / "out.onnx", external=True)
    data = data_of(tmp_path / "out.onnx")
    shutil.copy(tmp_path / "out.onnx", tmp_path / "best.onnx")
    write(tmp_path / "out.onnx", other(), external=True, force=True)
    with open_model(tmp_path / "best.onnx") as best:
        np.testing.assert_array_equal(best.tensor("w"), weights()["w"])
    (tmp_path / "out.onnx").rename(tmp_path / "second.model")
    kept = listing(tmp_path)
    write(tmp_path / "out.onnx", external=True)  # the same weights as best.onnx, under the same name: shared
    write(tmp_path / "out.onnx", other(), external=True, force=True, sources=[tmp_path / "best.onnx"])
    assert data_of(tmp_path / "best.onnx") == data
    assert {name: content for name, content in listing(tmp_path).items() if name != "out.onnx"} == kept


def test_a_stranger_under_the_data_file_s_name_is_not_replaced_without_force(tmp_path: Path) -> None:
    write(tmp_path / "out.onnx", external=True)
    data = data_of(tmp_path / "out.onnx")
    (tmp_path / "out.onnx").unlink()
    data.write_bytes(b"theirs")
    with pytest.raises(OutputError, match=rf"{data.name} exists already"):
        write(tmp_path / "out.onnx", external=True)
    assert listing(tmp_path) == {data.name: b"theirs"}
    write(tmp_path / "out.onnx", external=True, force=True)
    open_model(tmp_path / "out.onnx").close()


def test_an_inline_model_takes_the_old_data_away_but_no_stranger_s(tmp_path: Path) -> None:
    write(tmp_path / "out.onnx", external=True)
    for name in ("out.onnx.data", data_name("out.onnx", "f" * 64), "weights.bin"):
        (tmp_path / name).write_bytes(b"theirs")
    write(tmp_path / "out.onnx", other(), force=True)
    assert set(listing(tmp_path)) == {
        "out.onnx",
        "out.onnx.data",
        data_name("out.onnx", "f" * 64),
        "weights.bin",
    }


@pytest.mark.parametrize("renamed", [False, True])
def test_what_a_kill_interrupted_is_settled(tmp_path: Path, renamed: bool) -> None:
    """The states before and after the model's rename, as a kill leaves them."""
    write(tmp_path / "out.onnx", external=True)
    (tmp_path / "made").mkdir()
    write(tmp_path / "made" / "out.onnx", other(), external=True)
    old, new = data_of(tmp_path / "out.onnx").name, data_of(tmp_path / "made" / "out.onnx").name
    left = Scratch(tmp_path, "out.onnx")
    staged = left.make() / journal.STAGED
    (tmp_path / "made").rename(staged)
    Journal("out.onnx", made=(new,), obsolete=(old,)).write(left.path)
    (staged / new).rename(tmp_path / new)
    if renamed:
        os.replace(staged / "out.onnx", tmp_path / "out.onnx")
    sweep(tmp_path)
    assert left.path.exists()  # its maker lives
    assert left._descriptor is not None
    os.close(left._descriptor)
    sweep(tmp_path)
    assert set(listing(tmp_path)) == {"out.onnx", new if renamed else old}
    with open_model(tmp_path / "out.onnx") as model:
        np.testing.assert_array_equal(model.tensor("w"), (other() if renamed else weights())["w"])


def test_a_note_that_names_files_elsewhere_is_no_note(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"kept")
    (tmp_path / "folder").mkdir()
    with Scratch(tmp_path / "folder", "x") as left:
        Journal("out.onnx", obsolete=("../precious",)).write(left)
        settle(left)
    assert precious.exists()


@pytest.fixture(params=["no hard links", "hard links"])
def bare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system with neither unnamed files, nor ``flock``, nor ``preadv``; a signal 0 would end a process."""

    def refuse(*arguments: Any, **named: Any) -> None:
        raise OSError(95, "Operation not supported")

    def end(process: int, number: int) -> None:
        raise AssertionError(f"signal {number} to {process}")

    real = locks.fcntl

    def locking(descriptor: int, mode: int, nbytes: int) -> None:
        assert mode == 2 and nbytes == 1
        real.flock(descriptor, real.LOCK_EX | real.LOCK_NB)

    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.delattr(os, "preadv", raising=False)
    monkeypatch.setattr(os, "kill", end)
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    yield


@pytest.mark.skipif(locks.fcntl is None, reason="imitates a system without flock by means of it")
@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("external", [False, True])
def test_the_plain_way_does_the_same(tmp_path: Path, external: bool) -> None:
    path = tmp_path / "out.onnx"
    open_files: list[atomic_output.StagedFile] = []
    original = atomic_output.StagedFile.place

    def place(file: atomic_output.StagedFile, *, force: bool) -> None:
        original(file, force=force)
        open_files.extend([file] if not file._file.closed else [])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(atomic_output.StagedFile, "place", place)
        write(path, external=True)
        write(path, other(), external=external, force=True)
    assert not open_files  # nothing that is open is renamed
    with open_model(path) as model:
        np.testing.assert_array_equal(model.tensors["w"].numpy(), other()["w"])
        np.testing.assert_array_equal(model.model().graph.initializers["w"].const_value.numpy(), other()["w"])
    assert set(listing(tmp_path)) == {"out.onnx", *locations(path)}
    with pytest.raises(OutputError, match="exists already"):
        write(path, external=external)
    with Scratch(tmp_path, "lives") as living:
        dead = Scratch(tmp_path, "dead")
        dead.make()
        assert dead._descriptor is not None
        os.close(dead._descriptor)
        sweep(tmp_path)
        assert living.exists() and not dead.path.exists()


def test_without_any_locks_nothing_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", None)
    with Scratch(tmp_path, "mine") as living:
        sweep(tmp_path)
        assert living.exists()
        write_text(tmp_path / "plan.json", "{}")
    assert listing(tmp_path) == {"plan.json": b"{}"}


def test_folders_of_others_are_not_swept(tmp_path: Path) -> None:
    theirs = tmp_path / ".theirs.0123456789ab.partial"
    theirs.mkdir()
    (theirs / "lock").write_bytes(b"another program's")
    (theirs / "file").touch()
    sweep(tmp_path)
    assert (theirs / "file").exists()
    assert scratch._NAME.fullmatch(theirs.name)

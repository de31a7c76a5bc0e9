"""Weights in several files: none too long, each named after its content, all of them one output."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bot_onnx._onnxfile import byte_layout, data_files, journal
from bot_onnx._onnxfile.byte_layout import MODEL
from bot_onnx._onnxfile.copying import copy_model
from bot_onnx._onnxfile.data_files import SEAL_BYTES, locations
from bot_onnx._onnxfile.journal import Journal
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import Scratch, sweep
from bot_onnx._request import ResizeRequest
from bot_onnx._shards import Shards, external_of
from bot_onnx.errors import GraphError, OutputError
from tests.unit.onnxfile.test_writer import Arrays, listing, slots, structure, weights, write

LIMIT = 12_000  # bytes: "w" has 76,800, the other large tensors 1,100 to 8,008


def split(folder: Path, arrays: Arrays | None = None, limit: int = LIMIT, **options: object) -> byte_layout.Layout:
    return write(folder / "out.onnx", arrays, external=Shards(limit), **options)


def other() -> Arrays:
    return weights() | {"w": -weights()["w"]}


@pytest.mark.parametrize("limit", [1, 5_000, 8_200, LIMIT, 77_000, 10**9])
def test_no_file_is_longer_than_it_may_be(tmp_path: Path, limit: int) -> None:
    plan = split(tmp_path, limit=limit)
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    assert {file.name for file in plan.data} == set(locations(tmp_path / "out.onnx"))
    assert {file.name for file in plan.data} | {"out.onnx"} == set(listing(tmp_path))
    for file in plan.data:
        assert file.nbytes == (tmp_path / file.name).stat().st_size
        inside = plan.within(file.key)
        assert inside and (file.nbytes <= limit or len(inside) == 1)
        assert len(inside) > 1 or file.nbytes == plan.placements[inside[0]].nbytes + SEAL_BYTES
    # A file ends only where the next tensor would not go into it.
    for file, following in zip(plan.data, plan.data[1:], strict=False):
        assert file.nbytes + plan.placements[plan.within(following.key)[0]].nbytes > limit - 64
    with open_model(tmp_path / "out.onnx") as source:
        assert source.size_bytes == plan.total_bytes
        for name, array in weights().items():
            assert source.tensor(name).tobytes() == array.tobytes()
            assert plan.placements[name].file == MODEL or plan.placements[name].offset % 64 == 0
    x = np.ones((3, 64), np.float32)
    found = onnxruntime.InferenceSession(tmp_path / "out.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(found, x @ weights()["w"] + weights()["b"] + 1, rtol=1e-4, atol=1e-4)


def test_names_count_and_one_file_has_the_name_it_has_anyway(tmp_path: Path) -> None:
    names = [file.name for file in split(tmp_path).data]
    count = len(names)
    assert count > 2
    for number, name in enumerate(names, 1):
        assert name.startswith("out.onnx.") and name.endswith(f"-{number:05d}-of-{count:05d}.data")
    (one,) = split(tmp_path, limit=10**9, force=True).data
    assert set(listing(tmp_path)) == {"out.onnx", one.name}
    (tmp_path / "plain").mkdir()
    (plain,) = write(tmp_path / "plain" / "out.onnx", external=True).data
    assert plain == one and (tmp_path / "plain" / one.name).read_bytes() == (tmp_path / one.name).read_bytes()


def test_an_output_s_files_replace_those_of_the_one_before(tmp_path: Path) -> None:
    first = {file.name for file in split(tmp_path).data}
    for stranger in ("out.onnx.data", data_files.data_name("out.onnx", "f" * 64, 2, 3), "weights.bin"):
        (tmp_path / stranger).write_bytes(b"theirs")
    with pytest.raises(OutputError, match="exists already"):
        split(tmp_path, other())
    second = {file.name for file in split(tmp_path, other(), force=True).data}
    shared = first & second  # files without "w" hold what they held
    assert len(shared) == len(first) - 1
    left = {"out.onnx", "out.onnx.data", data_files.data_name("out.onnx", "f" * 64, 2, 3), "weights.bin"}
    assert set(listing(tmp_path)) == second | left
    write(tmp_path / "out.onnx", force=True)  # inside the model: no file of weights is left
    assert set(listing(tmp_path)) == left


def test_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    split(tmp_path)
    before = listing(tmp_path)

    def refuse(readable: str) -> None:
        with open_model(readable) as source:
            assert source.tensor("w").tobytes() == other()["w"].tobytes()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        split(tmp_path, other(), limit=5_000, force=True, before_publish=refuse)
    assert listing(tmp_path) == before


def test_a_mixture_is_refused_on_opening(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    mine, theirs = split(tmp_path).data, split(tmp_path / "theirs", other()).data
    number = next(n for n, (one, two) in enumerate(zip(mine, theirs, strict=True)) if one.name != two.name)
    (tmp_path / mine[number].name).write_bytes((tmp_path / "theirs" / theirs[number].name).read_bytes())
    with pytest.raises(GraphError, match="weights of another model"):
        open_model(tmp_path / "out.onnx")
    (tmp_path / mine[number].name).unlink()
    with pytest.raises(GraphError, match="no such file"):
        open_model(tmp_path / "out.onnx")


@pytest.mark.parametrize(("placed", "renamed"), [(1, False), (3, False), (99, True)])
def test_what_a_kill_interrupted_is_settled(tmp_path: Path, placed: int, renamed: bool) -> None:
    """Some of the files have their names, the model has not; or all of them have."""
    old = [file.name for file in split(tmp_path).data]
    (tmp_path / "made").mkdir()
    new = [file.name for file in split(tmp_path / "made", {**other(), "index": weights()["index"] + 1}, 5_000).data]
    assert not set(old) & set(new)
    left = Scratch(tmp_path, "out.onnx")
    staged = left.make() / journal.STAGED
    (tmp_path / "made").rename(staged)
    Journal("out.onnx", made=tuple(new), obsolete=tuple(old)).write(left.path)
    for name in new[:placed]:
        (staged / name).rename(tmp_path / name)
    if renamed:
        os.replace(staged / "out.onnx", tmp_path / "out.onnx")
    assert left._descriptor is not None
    os.close(left._descriptor)
    sweep(tmp_path)
    assert set(listing(tmp_path)) == {"out.onnx", *(new if renamed else old)}
    with open_model(tmp_path / "out.onnx") as model:
        np.testing.assert_array_equal(model.tensor("w"), (other() if renamed else weights())["w"])


def test_a_copy_takes_all_files_along(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "there").mkdir()
    split(tmp_path / "made")
    old = write(tmp_path / "there" / "out.onnx", other(), external=True).data
    copy_model(tmp_path / "made" / "out.onnx", tmp_path / "there" / "out.onnx", force=True)
    assert old[0].name not in listing(tmp_path / "there")
    assert listing(tmp_path / "there") == listing(tmp_path / "made")


def test_more_files_than_can_be_open_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_layout, "MOST_FILES", 3)
    with pytest.raises(OutputError, match=r"in 7 files of 1 bytes.*larger --shard-size"):
        byte_layout.layout(structure(), slots(weights()), "out.onnx", external=Shards(1))


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("2GB", 2 * 10**9), ("500 MiB", 500 * 2**20), ("1.5kb", 1500), ("4096", 4096), ("3TB", 3 * 10**12)],
)
def test_sizes_are_read(text: str, nbytes: int) -> None:
    assert external_of(text, False) == Shards(nbytes)
    assert external_of(None, True) is True and external_of(False, True) is False


@pytest.mark.parametrize("text", ["", "two GB", "2 gallons", "-1GB", "0", "0.1"])
def test_what_is_no_size_is_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(OutputError, match=r"2GB"):
        ResizeRequest({"hidden": 4}, external=text)

"""Models that lie elsewhere: read by parts, written when they are whole, refused by name where nothing reads them."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bot_onnx
from benchmarks.memory import Sizes, write_llama
from bot_onnx import api
from bot_onnx._cli import cli
from bot_onnx._onnxfile import mirror
from bot_onnx._onnxfile.addresses import Address, as_address
from bot_onnx._onnxfile.data_files import locations
from bot_onnx.errors import GraphError, MissingRuntimeError, OutputError
from tests import folders
from tests.graphs import residual_mlp_model, save

fsspec = pytest.importorskip("fsspec")

SPEC = {"hidden": 32, "heads": 4, "kv_heads": 2, "intermediate": 48, "layers": 2}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its weights beside it."""
    path = tmp_path_factory.mktemp("remote") / "llama.onnx"
    write_llama(path, 3, sizes=Sizes(48, 6, 2, 8, 64, 97))
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose matrices have many rows: 26 MB."""
    path = tmp_path_factory.mktemp("remote") / "wide.onnx"
    write_llama(path, 1, sizes=Sizes(640, 10, 5, 64, 1792, 2500))
    return path


class Store:
    """Files in the memory file system of fsspec, and what is asked of it.

    Attributes:
        read: bytes that were fetched. put: names in the order in which they were uploaded.
    """

    def __init__(self, root: str) -> None:
        self.root, self.system = root, fsspec.filesystem("memory")
        self.read, self.put = 0, list[str]()
        self.fails: str | None = None

    def upload(self, *files: Path) -> None:
        for file in files:
            self.system.pipe_file(f"{self.root}/{file.name}", file.read_bytes())

    def model(self, path: Path) -> str:
        self.upload(path, *(path.parent / name for name in locations(path)))
        return self.at(path.name)

    def at(self, name: str) -> str:
        return f"memory:/{self.root}/{name}"

    def held(self) -> dict[str, bytes]:
        return {
            place.rpartition("/")[2]: self.system.cat_file(place) for place in self.system.ls(self.root, detail=False)
        }


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty place, and a folder for temporary files, in which nothing may be left."""
    store = Store(f"/{tmp_path.name}")
    kind = type(store.system)
    cat_ranges, put_file = kind.cat_ranges, kind.put_file

    def reading(self: Any, paths: Any, starts: Any, ends: Any, **given: Any) -> Any:
        answers = cat_ranges(self, paths, starts, ends, **given)
        store.read += sum(map(len, answers))
        return answers

    def putting(self: Any, here: str, there: str, **given: Any) -> None:
        if store.fails is not None and there.endswith(store.fails):
            self.pipe_file(there, b"half of it")
            raise ConnectionResetError("the other end went away")
        put_file(self, here, there, **given)
        store.put.append(there.rpartition("/")[2])

    monkeypatch.setattr(kind, "cat_ranges", reading)
    monkeypatch.setattr(kind, "put_file", putting)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    store.system.mkdir(store.root)
    yield store
    store.system.rm(store.root, recursive=True)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_inspect_sees_the_same_and_reads_little(wide: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bot_onnx")
    name = store.model(wide)
    found = bot_onnx.inspect(name)
    here = bot_onnx.inspect(wide)
    assert found.path == name and found.structure == here.structure and found.costs == here.costs
    assert found.size_bytes == here.size_bytes
    assert 0 < store.read < found.size_bytes / 6  # 64 + 64 + 8 rows of matrices of 640 and 1,792
    assert f"fetched {store.read} of {found.size_bytes} bytes of {name}" in caplog.text
    explained = run("inspect", name, "--explain", "hidden", "--json")
    assert explained.exit_code == 0 and json.loads(explained.stdout)["explained"] == "hidden"


def test_a_dry_run_reads_little_and_says_the_same(wide: Path, store: Store) -> None:
    name = store.model(wide)
    sizes = ("--hidden", 384, "--heads", 6, "--kv-heads", 3, "--dry-run")
    there, here = run("resize", name, *sizes), run("resize", wide, *sizes)
    assert there.exit_code == 0, there.output
    assert store.read < sum(map(len, store.held().values())) / 6
    tables = [shown.stdout.partition("Changes")[2].partition("proof:")[0].split() for shown in (there, here)]
    assert tables[0] == tables[1]
    assert "Dry run: wide-hidden384" in there.stderr  # in this folder: none is beside it


@pytest.mark.parametrize("external", [False, True, "9kB"])
def test_a_resize_there_has_the_bytes_of_one_here(llama: Path, store: Store, tmp_path: Path, external: Any) -> None:
    name, out = store.model(llama), store.at("small.onnx")
    source = store.held()
    result = api.resize(name, SPEC, out, external=external)
    here = api.resize(llama, SPEC, tmp_path / "here" / "small.onnx", external=external)
    made = {file: content for file, content in store.held().items() if file not in source}
    assert made == {entry.name: entry.read_bytes() for entry in (tmp_path / "here").iterdir()}
    assert str(result.output) == out == result.report.path and result.plan.source == name
    assert replace(result.plan, source="") == replace(here.plan, source="")
    assert [c.name for c in result.report.checks] == [c.name for c in here.report.checks]
    graph = len(source["llama.onnx"])  # looked at once more, for the names of the source's files
    assert sum(map(len, source.values())) <= store.read < 1.05 * sum(map(len, source.values())) + graph
    assert store.put[-1] == "small.onnx" and set(store.put) == set(made)
    assert {file: store.held()[file] for file in source} == source
    assert bot_onnx.verify(out, against=name).passed
    assert run("verify", out, "--against", llama).exit_code == 0


def test_of_the_command_line(llama: Path, store: Store, tmp_path: Path) -> None:
    out = store.at("small.onnx")
    done = run("resize", llama, "--layers", 1, "-o", out, "--json", "--plan-out", tmp_path / "plan.json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["output"] == out and str(tmp_path / "temporary") not in done.stdout
    again = run("resize", store.model(llama), "--plan", tmp_path / "plan.json", "-o", store.at("again.onnx"), "-q")
    assert again.exit_code == 0, again.output
    back = run("resize", out, "--hidden", 32, "--heads", 4, "--kv-heads", 2, "-o", tmp_path / "back.onnx")
    assert back.exit_code == 0 and (tmp_path / "back.onnx").exists()
    assert out in " ".join(back.stdout.split())


def test_what_is_there_is_replaced_only_by_force_and_with_its_data(llama: Path, store: Store) -> None:
    out = store.at("small.onnx")
    api.resize(llama, SPEC, out, external="9kB")
    before = store.held()
    with pytest.raises(OutputError, match=r"small\.onnx exists already"):
        api.resize(llama, {"layers": 1}, out)
    with pytest.raises(OutputError, match="is a source of this command"):
        api.resize(out, {"layers": 1}, out, force=True)
    data = next(name for name in before if name.endswith(".data"))
    with pytest.raises(OutputError, match="is a source of this command"):
        api.resize(out, {"layers": 1}, store.at(data), force=True)
    assert store.held() == before
    store.system.pipe_file(f"{store.root}/copy.onnx", before["small.onnx"])  # it reads the same data
    store.system.pipe_file(f"{store.root}/small.onnx.{'f' * 12}.data", b"theirs")
    api.resize(llama, {"layers": 1}, out, force=True, external=True)
    assert set(before) < set(store.held())
    store.system.rm_file(f"{store.root}/copy.onnx")
    api.resize(llama, SPEC, out, force=True, external="9kB")
    second = store.held()
    assert second == before | {f"small.onnx.{'f' * 12}.data": b"theirs"}
    api.resize(llama, {"layers": 1}, out, force=True, external=False)
    assert set(store.held()) == {"small.onnx", f"small.onnx.{'f' * 12}.data"}


@pytest.mark.parametrize("fails", ["small.onnx", "-00002-of-N.data"])
def test_a_failed_upload_leaves_nothing(llama: Path, store: Store, fails: str) -> None:
    api.resize(llama, SPEC, store.at("small.onnx"), external="9kB")
    count = len(store.held()) - 1
    for name in store.held():
        store.system.rm_file(f"{store.root}/{name}")
    store.fails = fails.replace("N", f"{count:05d}")
    with pytest.raises(OutputError, match="cannot be written: the other end went away"):
        api.resize(llama, SPEC, store.at("small.onnx"), external="9kB")
    assert store.held() == {}


def test_a_failure_before_it_uploads_nothing(llama: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*told: Any) -> None:
        raise GraphError("no more")

    monkeypatch.setattr("bot_onnx._engine.raise_unless_passed", refuse)
    with pytest.raises(GraphError, match="no more"):
        api.resize(llama, SPEC, store.at("small.onnx"))
    assert store.put == []


def test_a_source_that_changes_meanwhile_is_an_error(
    llama: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = store.model(llama)
    fetch = mirror.RemoteFile._fetch

    def changing(self: Any, blocks: Any) -> None:
        fetch(self, blocks)
        store.system.pipe_file(f"{store.root}/llama.onnx", b"another model")

    monkeypatch.setattr(mirror.RemoteFile, "_fetch", changing)
    with pytest.raises(GraphError, match=r"llama\.onnx (was changed while it was read|gave \d+ bytes)"):
        bot_onnx.inspect(name)
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def test_what_is_missing_or_damaged_is_told_by_its_address(llama: Path, store: Store) -> None:
    name = store.model(llama)
    with pytest.raises(GraphError, match=f"there is no file '{store.at('other.onnx')}'"):
        bot_onnx.inspect(store.at("other.onnx"))
    (data,) = locations(llama)
    store.system.pipe_file(f"{store.root}/{data}", b"short")
    with pytest.raises(GraphError, match=rf"of {name} should take bytes .* of {store.at(data)}, which has 5"):
        bot_onnx.inspect(name)
    store.system.rm_file(f"{store.root}/{data}")
    with pytest.raises(GraphError, match=f"there is no file '{store.at(data)}'"):
        bot_onnx.inspect(name)
    store.system.pipe_file(f"{store.root}/text.onnx", b"no model at all, but a text")
    with pytest.raises(GraphError, match=rf"{store.at('text.onnx')} is not an ONNX model but a text file"):
        bot_onnx.inspect(store.at("text.onnx"))
    store.system.pipe_file(f"{store.root}/empty.onnx", b"")
    with pytest.raises(GraphError, match="is empty"):
        bot_onnx.inspect(store.at("empty.onnx"))
    with pytest.raises(GraphError, match=r"it is no file"):
        bot_onnx.inspect(f"memory:/{store.root}")


def test_weights_inside_the_model_file(store: Store, tmp_path: Path) -> None:
    here = save(residual_mlp_model(2, 320, 640), tmp_path)
    name = store.model(here)
    assert bot_onnx.inspect(name).structure == bot_onnx.inspect(here).structure
    assert store.read < here.stat().st_size / 2
    api.resize(name, {"hidden": 160}, tmp_path / "there.onnx")
    api.resize(here, {"hidden": 160}, tmp_path / "here.onnx")
    assert (tmp_path / "there.onnx").read_bytes() == (tmp_path / "here.onnx").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ("quantize", "S", "--to", "fp16"), ("fit", "S", "--max-params", "1k"), ("export", "S"), ("report", "S"),
        ("import", "S", "--from", "L"), ("resize", "S", "S2", "--hidden", 4),
        ("resize", "S", "--hidden", 4, "--quantize", "fp16"),
        ("quantize", "L", "--to", "fp16", "-o", "S"), ("resize", "L", "--hidden", 4, "--quantize", "fp16", "-o", "S"),
        ("resize", "L", "--hidden", 4, "--plan-out", "S"), ("resize", "F", "--hidden", 12, "-o", "S"),
        ("resize", "L", "--hidden", 4, "-o", "S", "--resume"), ("resize", "S", "--hidden", 4, "--recipe-out", "r.json"),
        ("sweep", "L", "--spec", "P", "--method", "front", "--study", "S"), ("export", "L", "-o", "S"),
        ("sweep", "S", "--spec", "P", "--method", "front"), ("run", "from.json"), ("run", "to.json"),
        ("resize", "bert/model.onnx", "--vocab-keep", "ids.txt", "-o", "S"),
    ],
    ids=lambda command: " ".join(str(word) for word in command),
)  # fmt: skip
def test_what_reads_or_writes_here_alone_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[Any, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    here = save(residual_mlp_model(2, 8, 16), tmp_path, "local.onnx")
    folders.bert(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").unlink()
    (tmp_path / "spec.json").write_text('{"hidden": 4}')
    (tmp_path / "ids.txt").write_text("0\n1\n2\n3\n")
    for name, model, out in (
        ("from.json", store.at("model.onnx"), "o.onnx"),
        ("to.json", "local.onnx", store.at("o.onnx")),
    ):
        steps = [{"resize": {"hidden": 4}}]
        (tmp_path / name).write_text(json.dumps({"model": model, "output": out, "steps": steps}))
    words = {"S": store.at("model.onnx"), "S2": store.at("more.onnx"), "L": here, "F": "bert", "P": "spec.json"}
    before = {path for path in tmp_path.rglob("*") if "temporary" not in path.parts}
    refused = run(*(words.get(str(word), word) for word in command))
    assert refused.exit_code in (1, 2), refused.output
    assert "memory:" in refused.stderr or "on this machine" in refused.stderr
    assert "unexpected" not in refused.stderr and store.held() == {}
    assert {path for path in tmp_path.rglob("*") if "temporary" not in path.parts} == before


def test_names() -> None:
    assert str(as_address("s3://bucket/model.onnx")) == "s3://bucket/model.onnx"
    assert str(as_address(Path("s3://bucket/model.onnx"))) == "s3://bucket/model.onnx"
    assert as_address("s3://bucket/model.onnx") == Address("s3://bucket/model.onnx")
    for here in (
        "model.onnx",
        "/tmp/model.onnx",
        "C:/model.onnx",
        r"C:\model.onnx",
        "hf://a/b",
        "file:///model.onnx",
        b"x",
    ):
        assert as_address(here) is None
    with pytest.raises(GraphError, match="check the address"):
        bot_onnx.inspect("nosuchthing://bucket/model.onnx")


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data:").mkdir()
    save(residual_mlp_model(2, 8, 16), tmp_path / "data:")
    assert bot_onnx.inspect("data:/model.onnx").path == "data:/model.onnx"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(MissingRuntimeError, match=r"s3://b/m\.onnx: Install s3fs to access S3; the packages"):
        bot_onnx.inspect("s3://b/m.onnx")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingRuntimeError, match=r"reads and writes s3://b/m\.onnx, and is not installed.*remote"):
        bot_onnx.inspect("s3://b/m.onnx")

"""Writing: round trips, atomicity under every way to fail, refusals."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime  # type: ignore[import-untyped]
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile import atomic_output, byte_layout, data_files
from bot_onnx._onnxfile.atomic_output import Staging
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import Scratch
from bot_onnx._onnxfile.writer import TensorSlot, check_output, layout, write_model, write_text
from bot_onnx.errors import GraphError, OutputError

Arrays = dict[str, np.ndarray]


def weights(rows: int = 64, columns: int = 300) -> Arrays:
    rng = np.random.default_rng(1)
    return {
        "w": rng.standard_normal((rows, columns)).astype(np.float32),
        "b": rng.standard_normal(columns).astype(np.float32),
        "half": rng.standard_normal((37, 41)).astype(np.float16),
        "brain": rng.standard_normal((53, 59)).astype(ml_dtypes.bfloat16),
        "index": rng.integers(0, 9, 1001),
        "shape": np.array([-1, columns], np.int64),
        "flag": np.array([True, False] * 700),
        "nibble": rng.integers(-8, 8, (31, 71)).astype(ml_dtypes.int4),
        "scalar": np.array(2, np.float64),
        "none": np.zeros((0, 3), np.float32),
    }


def structure(rows: int = 64, columns: int = 300) -> onnx.ModelProto:
    """Build y = Reshape(x @ w + b): its shape inference needs the values of ``shape``."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["sum"]),
            helper.make_node("Add", ["sum", "one"], ["more"]),
            helper.make_node("Reshape", ["more", "shape"], ["y"]),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["n", rows])],
        [value("y", TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, producer_name="test")


def slots(arrays: Arrays) -> list[TensorSlot]:
    return [TensorSlot(name, ir.DataType.from_numpy(array.dtype), array.shape) for name, array in arrays.items()]


def write(path: Path, arrays: Arrays | None = None, **options: object) -> byte_layout.Layout:
    arrays = weights() if arrays is None else arrays
    return write_model(structure(), slots(arrays), reversed(arrays.items()), path, **options)  # type: ignore[arg-type]


def listing(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def pair(folder: Path, external: bool = True) -> list[str]:
    """What the folder must hold: the model, and the data file that it names."""
    return sorted(["out.onnx", *(data_files.locations(folder / "out.onnx") if external else ())])


@pytest.fixture(params=["anonymous", "named"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """With and without files that have no name until they are published."""
    if request.param == "named":
        monkeypatch.setattr(atomic_output, "_can_be_anonymous", lambda folder: False)
    elif not atomic_output._can_be_anonymous(tmp_path):
        pytest.skip("the temporary folder's file system cannot hold anonymous files")
    return str(request.param)


@pytest.mark.parametrize("external", [False, True])
def test_round_trip(tmp_path: Path, either: str, external: bool) -> None:
    path, expected = tmp_path / "out.onnx", weights()
    plan = write(path, external=external)
    assert sorted(listing(tmp_path)) == pair(tmp_path, external)
    onnx.checker.check_model(path, full_check=True)
    loaded = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    with open_model(path) as source:
        for name, array in expected.items():
            assert numpy_helper.to_array(loaded[name]).tobytes() == array.tobytes()
            assert source.tensor(name).tobytes() == array.tobytes()
            place = plan.placements[name]
            stored = path if place.file == "model" else tmp_path / plan.data[0].name
            raw = stored.read_bytes()[place.offset : place.offset + place.nbytes]
            assert raw == ir.Tensor(array).tobytes()
            assert place.file == ("data" if external and place.nbytes >= 1024 else "model")
            assert place.file == "model" or place.offset % 64 == 0
        assert source.size_bytes == plan.total_bytes
        assert source.proto.producer_name == "test"
    x = np.ones((3, 64), np.float32)
    found = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, x @ expected["w"] + expected["b"] + 1, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("external", [False, True])
def test_same_input_same_bytes(tmp_path: Path, external: bool) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "out.onnx", external=external)
    assert listing(tmp_path / "a") == listing(tmp_path / "b")


def test_inline_bytes_are_protobuf_s_own(tmp_path: Path) -> None:
    arrays = {name: array for name, array in weights().items() if name != "nibble"}
    write(tmp_path / "out.onnx", arrays)
    proto = structure()
    proto.graph.initializer.extend(ir.serde.serialize_tensor(ir.Tensor(a, name=n)) for n, a in arrays.items())
    found = onnx.ModelProto.FromString((tmp_path / "out.onnx").read_bytes())
    assert found == proto
    assert found.ByteSize() == (tmp_path / "out.onnx").stat().st_size


def test_pieces_and_byte_orders(tmp_path: Path) -> None:
    arrays = weights()

    def pieces() -> Iterator[tuple[str, np.ndarray]]:
        yield "w", arrays["w"][:10]
        for name, array in arrays.items():
            if name != "w":
                yield name, array.astype(array.dtype.newbyteorder(">")) if array.dtype.kind in "fi" else array
        yield "w", np.asfortranarray(arrays["w"][10:])

    write_model(structure(), slots(arrays), pieces(), tmp_path / "out.onnx")
    with open_model(tmp_path / "out.onnx") as source:
        for name, array in arrays.items():
            assert source.tensor(name).tobytes() == array.tobytes()


def test_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = weights()
    inline = layout(structure(), slots(arrays), "out.onnx")
    assert not inline.data
    monkeypatch.setattr(byte_layout, "INLINE_LIMIT", inline.model_bytes - 1)
    (file,) = write(tmp_path / "out.onnx").data
    name = file.name
    assert re.fullmatch(r"out\.onnx\.[0-9a-f]{12}\.data", name)
    assert name != data_files.data_name("out.onnx", data_files.UNKNOWN)
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    monkeypatch.setattr(byte_layout, "INLINE_LIMIT", 100)
    with pytest.raises(OutputError, match="choose a smaller target"):
        layout(structure(), slots(arrays), "out.onnx")


def test_three_gigabytes_are_laid_out_beside_the_model() -> None:
    plan = layout(structure(), [TensorSlot(f"t{i}", ir.DataType.FLOAT, (2**28 - 1,)) for i in range(3)], "out.onnx")
    (file,) = plan.data
    assert file.nbytes == plan.placements["t2"].offset + 4 * (2**28 - 1) + len(file.seal)
    assert [place.offset for place in plan.placements.values()] == [0, 2**30, 2**31]


@pytest.mark.parametrize("external", [False, True])
def test_what_is_verified_is_what_is_published(tmp_path: Path, either: str, external: bool) -> None:
    seen = {}

    def verify(path: str) -> None:
        assert not (tmp_path / "out.onnx").exists()
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path)
        seen["y"] = session.run(None, {"x": np.ones((1, 64), np.float32)})[0]
        with open_model(path) as source:
            seen["hash"] = source.sha256()
        seen["inode"] = os.stat(path).st_ino

    write(tmp_path / "out.onnx", external=external, before_publish=verify)
    with open_model(tmp_path / "out.onnx") as source:
        assert source.sha256() == seen["hash"]
    assert os.stat(tmp_path / "out.onnx").st_ino == seen["inode"]
    assert sorted(listing(tmp_path)) == pair(tmp_path, external)
    assert all(file.stat().st_nlink == 1 for file in tmp_path.iterdir())


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("when", ["produce", "verify", "publish"])
def test_any_exception_leaves_the_folder_as_it_was(
    tmp_path: Path,
    either: str,
    external: bool,
    force: bool,
    error: type[BaseException],
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, arrays = tmp_path / "out.onnx", weights()
    (tmp_path / "other").write_bytes(b"other")
    if force:
        write(path, arrays | {"w": -arrays["w"]}, external=True)
    before = listing(tmp_path)

    def produce() -> Iterator[tuple[str, np.ndarray]]:
        yield "w", arrays["w"]
        if when == "produce":
            raise error
        yield from ((name, array) for name, array in arrays.items() if name != "w")

    def verify(readable: str) -> None:
        if when == "verify":
            raise error

    def fails_for_the_model(file: atomic_output.StagedFile, *, force: bool) -> None:
        if file.target == path:
            raise error
        original(file, force=force)

    if when == "publish":
        original: Callable[..., None] = atomic_output.StagedFile.place
        monkeypatch.setattr(atomic_output.StagedFile, "place", fails_for_the_model)
    with pytest.raises(error):
        write_model(structure(), slots(arrays), produce(), path, external=external, force=force, before_publish=verify)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("external", [False, True])
def test_force_replaces_whole_files(tmp_path: Path, either: str, external: bool) -> None:
    path = tmp_path / "out.onnx"
    write(path, external=True)
    with open_model(path) as source:
        held = source.tensor("w")
        changed = weights() | {"w": -weights()["w"]}
        write(path, changed, external=external, force=True)
        np.testing.assert_array_equal(held, weights()["w"])  # the old file lives on for who has it open
    with open_model(path) as source:
        np.testing.assert_array_equal(source.tensor("w"), changed["w"])
    assert sorted(listing(tmp_path)) == pair(tmp_path, external)


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path, either: str) -> None:
    path = tmp_path / "out.onnx"
    with pytest.raises(OutputError, match="exists already"):
        write(path, before_publish=lambda _: path.write_bytes(b"theirs") and None)
    assert listing(tmp_path) == {"out.onnx": b"theirs"}


KILLED = """
    import sys, time
    sys.path.insert(0, {tests!r})
    import test_writer as t
    def produce():
        for name, array in t.weights().items():
            yield name, array
            if {stage!r} == "produce":
                print("now", flush=True)
                time.sleep(60)
    def verify(path):
        print("now", flush=True)
        time.sleep(60)
    slots = t.slots(t.weights())
    t.write_model(t.structure(), slots, produce(), {path!r}, external={external!r}, before_publish=verify)
"""


def killed_write(path: Path, external: bool, stage: str) -> None:
    names = {"tests": str(Path(__file__).parent), "path": str(path), "external": external, "stage": stage}
    code = textwrap.dedent(KILLED).format(**names)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("following", ["same", "other"])
def test_a_killed_write_leaves_nothing_that_stays(tmp_path: Path, following: str) -> None:
    path = tmp_path / "out.onnx"
    anonymous = atomic_output._can_be_anonymous(tmp_path)
    killed_write(path, False, "produce")
    assert not anonymous or listing(tmp_path) == {}
    killed_write(path, True, "verify")  # both files need a name for a while here
    assert not path.exists()
    assert [re.sub("[0-9a-f]{12}", "#", file.name) for file in tmp_path.iterdir()] == [".out.onnx.#.partial"]
    mine = tmp_path / ".mine.0123456789ab.partial"  # the name is one of ours, the content is not
    mine.mkdir()
    (mine / "notes").touch()
    (tmp_path / ".out.onnx.0123456789ab.partial.txt").touch()
    written = tmp_path / ("out.onnx" if following == "same" else "another.onnx")
    with Scratch(tmp_path, "out.onnx") as living:
        write(written)
        kept = {written.name, living.name, mine.name, ".out.onnx.0123456789ab.partial.txt"}
        assert {file.name for file in tmp_path.iterdir()} == kept
    assert {file.name for file in tmp_path.iterdir()} == kept - {living.name}


def test_two_writes_of_one_output_at_a_time(tmp_path: Path) -> None:
    def inner(_: str) -> None:
        with pytest.raises(OutputError, match="being written already"):
            write(tmp_path / "out.onnx")

    write(tmp_path / "out.onnx", before_publish=inner)
    assert list(listing(tmp_path)) == ["out.onnx"]


@pytest.mark.parametrize("external", [False, True])
def test_disk_full(tmp_path: Path, either: str, external: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(9, 9, 1000))
    with pytest.raises(OutputError, match=r"needs \d+ bytes, but only 1000 are free"):
        write(tmp_path / "out.onnx", external=external)
    assert listing(tmp_path) == {}


def test_the_disk_fills_up_meanwhile(tmp_path: Path, either: str) -> None:
    resource = pytest.importorskip("resource")
    code = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_writer as t
        if {either!r} == "named":
            t.atomic_output._can_be_anonymous = lambda folder: False
        arrays = t.weights(64, 9000)
        size = t.layout(t.structure(), t.slots(arrays), "out.onnx").model_bytes
        from pathlib import Path
        t.atomic_output.StagedFile.resize = lambda file, nbytes: setattr(file, "_nbytes", nbytes)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            t.write(Path({str(tmp_path)!r}) / "out.onnx", arrays)
        except t.OutputError as error:
            print(size, error)
    """
    assert resource.RLIMIT_FSIZE >= 0
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    size, _, message = done.stdout.partition(" ")
    assert message.startswith(f"no room left for {tmp_path / 'out.onnx'} ({size} bytes needed)")
    assert listing(tmp_path) == {}


def test_a_write_that_fails_is_worded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no room left"):
        write(tmp_path / "out.onnx")
    assert listing(tmp_path) == {}


def test_memory_holds_one_tensor(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    code = f"""
        import re, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import numpy as np, test_writer as t
        from pathlib import Path
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
        t.write(Path({str(tmp_path)!r}) / "warm.onnx")
        before = peak()
        small = t.weights()
        places = [t.TensorSlot(f"t{{i}}", t.ir.DataType.FLOAT, (2500, 1000)) for i in range(20)]
        def produce():
            yield from small.items()
            for i, slot in enumerate(places):
                yield slot.name, np.full(slot.shape, i, np.float32)
        t.write_model(t.structure(), t.slots(small) + places, produce(), {str(tmp_path / "out.onnx")!r})
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40  # MB, of 200 written; one tensor has 10, and the next is made while one is held
    with open_model(tmp_path / "out.onnx") as source:
        assert all((source.tensor(f"t{i}")[[0, -1], [0, -1]] == i).all() for i in range(20))


def mangled(name: str) -> Iterator[tuple[str, np.ndarray]]:
    arrays = weights()
    changes: dict[str, Callable[[], list[tuple[str, np.ndarray]]]] = {
        "missing": lambda: [item for item in arrays.items() if item[0] != "w"],
        "short": lambda: [*(item for item in arrays.items() if item[0] != "w"), ("w", arrays["w"][:5])],
        "twice": lambda: [*arrays.items(), ("w", arrays["w"])],
        "transposed": lambda: [("w", arrays["w"].T)],
        "type": lambda: [("w", arrays["w"].astype(np.float64))],
        "stranger": lambda: [("v", arrays["w"])],
        "nibbles": lambda: [("nibble", arrays["nibble"][:3])],
    }
    yield from changes[name]()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("missing", "no or too few values were produced for tensor 'w'"),
        ("short", "no or too few values were produced for tensor 'w'"),
        ("twice", "'w' was produced twice"),
        ("transposed", r"'w' was produced as float32 \[300, 64\], but the plan says FLOAT \[64, 300\]"),
        ("type", "'w' was produced as float64"),
        ("stranger", "no place for"),
        ("nibbles", "produce it whole"),
    ],
)
def test_produced_tensors_must_fill_their_slots(tmp_path: Path, name: str, match: str) -> None:
    with pytest.raises(OutputError, match=match):
        write_model(structure(), slots(weights()), mangled(name), tmp_path / "out.onnx")
    assert listing(tmp_path) == {}


def test_layouts_that_cannot_be(tmp_path: Path) -> None:
    one = TensorSlot("w", ir.DataType.FLOAT, (2,))
    for bad, match in [
        ([one, one], "two initializers of the output are called 'w'"),
        ([TensorSlot("one", ir.DataType.FLOAT, (2,))], "called 'one'"),
        ([TensorSlot("s", ir.DataType.STRING, (2,))], "no fixed length"),
        ([TensorSlot("s", ir.DataType.FLOAT, (-2,))], "no fixed length"),
    ]:
        with pytest.raises(OutputError, match=match):
            layout(structure(), bad, "out.onnx")
    write(tmp_path / "out.onnx")
    with open_model(tmp_path / "out.onnx") as source, pytest.raises(OutputError, match="still refers to the source"):
        layout(source.proto, [], "out.onnx")


def test_outputs_that_may_not_be_written(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    write(source, external=True)
    (data,) = tmp_path.glob("source.onnx.*.data")
    os.link(source, tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to(source)
    (tmp_path / "dangling.onnx").symlink_to(tmp_path / "gone")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "taken.onnx.data").touch()
    before = {file: os.lstat(file).st_ino for file in tmp_path.iterdir()}
    files = (source, data)
    for name, external, force, match in [
        ("source.onnx", False, True, "is a source of this command"),
        ("folder.onnx/../source.onnx", False, True, "is a source of this command"),
        ("hard.onnx", False, True, "is a source of this command"),
        ("soft.onnx", False, True, "is a source of this command"),
        (data.name, False, True, "is a source of this command"),
        ("source.onnx", False, False, "is a source of this command"),
        ("taken.onnx.data", False, False, "exists already"),
        ("dangling.onnx", False, False, "exists already"),
        ("folder.onnx", False, True, "is a folder"),
        ("dangling.onnx/out.onnx", False, False, "dangling.onnx does not exist"),
        ("taken.onnx.data/sub/out.onnx", False, False, "is not a folder"),
        ("taken.onnx.data/out.onnx", False, False, "is not a folder"),
        ("", False, True, "is a folder"),
        ("a\0b", False, False, "no file name"),
        ("n" * 300, False, False, "cannot write"),
        ("n" * 240, True, False, "cannot write"),
    ]:
        with pytest.raises(OutputError, match=match):
            check_output(tmp_path / name, external=external, force=force, sources=files)
        with pytest.raises(OutputError, match=match):
            write(tmp_path / name, external=external, force=force, sources=files)
    assert {file: os.lstat(file).st_ino for file in tmp_path.iterdir()} == before
    with pytest.raises(OutputError, match="no regular file"):
        check_output(os.devnull, force=True)


def test_folders_above_are_made_and_go_again_where_nothing_comes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.onnx"
    check_output(path)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError), Staging(path):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    write_text(path, "x")
    assert path.read_text() == "x" and [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        check_output(tmp_path / "out.onnx")


def test_a_relative_path_means_where_the_write_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    write(Path("out.onnx"), before_publish=lambda _: os.chdir(tmp_path / "elsewhere"))
    assert (tmp_path / "out.onnx").exists()


def test_umask_is_respected(tmp_path: Path, either: str) -> None:
    old = os.umask(0o027)
    try:
        write(tmp_path / "out.onnx")
    finally:
        os.umask(old)
    assert (tmp_path / "out.onnx").stat().st_mode & 0o777 == 0o640


def test_a_truncated_output_is_refused_by_the_reader(tmp_path: Path) -> None:
    write(tmp_path / "out.onnx")
    os.truncate(tmp_path / "out.onnx", (tmp_path / "out.onnx").stat().st_size - 1)
    with pytest.raises(GraphError):
        open_model(tmp_path / "out.onnx")

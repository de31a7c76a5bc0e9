"""A file elsewhere: what is looked at is fetched, once, and nothing else; what is seen is what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from bot_onnx._onnxfile import mirror, skeleton_scan
from bot_onnx._onnxfile.addresses import Address
from bot_onnx._onnxfile.mirror import BLOCK, Mirror, RemoteFile
from bot_onnx._onnxfile.peeking import Peek, peeked
from bot_onnx._onnxfile.reader import open_mirror, open_model
from bot_onnx.errors import GraphError
from tests.unit.onnxfile.test_writer import weights, write

fsspec = pytest.importorskip("fsspec")

CONTENT = np.random.default_rng(0).integers(0, 256, 300_007, np.uint8).tobytes()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Any]:
    """A memory file system, and a folder in it."""
    system = fsspec.filesystem("memory")
    system.mkdir(f"/{tmp_path.name}")
    yield system
    system.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def file(there: Any, tmp_path: Path) -> Iterator[RemoteFile]:
    there.pipe_file(f"/{tmp_path.name}/data", CONTENT)
    made = Mirror(Address(f"memory://{tmp_path.name}/data"), tmp_path).open()
    yield made
    made.close()


def test_what_is_read_is_fetched_once(file: RemoteFile) -> None:
    assert file.size == len(CONTENT) and file.fetched == 0
    for offset, nbytes in ((5, 10), (BLOCK - 1, 2), (100_000, 50_000), (len(CONTENT) - 3, 3), (120_000, 100)):
        assert file.read(offset, nbytes).tobytes() == CONTENT[offset : offset + nbytes]
    before = file.fetched
    assert 50_000 < before < 50_000 + 8 * BLOCK
    file.ensure((5, 10), (100_000, 50_000))
    assert file.fetched == before
    assert b"".join(chunk.tobytes() for chunk in file.chunks(0, file.size, np.empty(7_001, np.uint8))) == CONTENT
    assert file.fetched < len(CONTENT) + 16 * BLOCK
    with pytest.raises(GraphError, match="shorter"):
        file.read(len(CONTENT) - 3, 4)


def test_large_reads_go_out_in_parts(file: RemoteFile, there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[tuple[int, int]]] = []
    cat_ranges = type(there).cat_ranges

    def seen(self: Any, paths: Any, starts: Any, ends: Any, **given: Any) -> Any:
        asked.append(list(zip(starts, ends, strict=True)))
        return cat_ranges(self, paths, starts, ends, **given)

    monkeypatch.setattr(type(there), "cat_ranges", seen)
    monkeypatch.setattr(mirror, "_PART", 8 * BLOCK)
    monkeypatch.setattr(mirror, "_BATCH", 3)
    assert file.read(0, file.size).tobytes() == CONTENT
    assert [len(parts) for parts in asked] == [3, 3, 3, 1]
    assert all(end - start <= 8 * BLOCK for parts in asked for start, end in parts)


def test_a_short_answer_and_a_change_are_errors(
    file: RemoteFile, there: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.check_unchanged()
    with monkeypatch.context() as patched:
        patched.setattr(type(there), "cat_ranges", lambda *told, **given: [b"short"])
        with pytest.raises(GraphError, match=f"memory://{tmp_path.name}/data gave 5 bytes where 4096 were"):
            file.read(0, 10)
    there.pipe_file(f"/{tmp_path.name}/data", CONTENT[::-1])
    with pytest.raises(GraphError, match="was changed while it was read"):
        file.check_unchanged()
    there.rm_file(f"/{tmp_path.name}/data")
    with pytest.raises(GraphError, match="cannot be read"):
        file.check_unchanged()


@pytest.mark.parametrize("external", [False, True])
def test_a_model_is_what_it_is_here(there: Any, tmp_path: Path, external: bool) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "mirror").mkdir()
    here = tmp_path / "here" / "out.onnx"
    write(here, weights(640, 300), external=external)
    for entry in here.parent.iterdir():
        there.pipe_file(f"/{tmp_path.name}/{entry.name}", entry.read_bytes())
    made = Mirror(Address(f"memory://{tmp_path.name}/out.onnx"), tmp_path / "mirror")
    with open_model(here) as expected, open_mirror(made) as found:
        assert found.proto == expected.proto and found.size_bytes == expected.size_bytes
        assert found.uses_external_data == expected.uses_external_data
        assert made.fetched < 0.2 * found.size_bytes  # "w" has 768,000 bytes
        for name in expected.tensors:
            assert found.tensor(name).tobytes() == expected.tensor(name).tobytes()
        assert found.sha256() == expected.sha256()
        found.check_unchanged()
        model = found.model()
        tensor = model.graph.initializers["w"].const_value
        assert tensor is not None and tensor.tobytes() == weights(640, 300)["w"].tobytes()


def test_the_walk_over_a_message_fetches_what_it_reads(there: Any, tmp_path: Path) -> None:
    here = tmp_path / "out.onnx"
    write(here, weights(640, 300) | {f"w{n}": np.full((64, 300), n, np.float32) for n in range(20)})
    there.pipe_file(f"/{tmp_path.name}/out.onnx", here.read_bytes())
    made = Mirror(Address(f"memory://{tmp_path.name}/out.onnx"), tmp_path / "mirror")
    (tmp_path / "mirror").mkdir()
    file = made.open()
    expected = skeleton_scan.scan(here.read_bytes(), "x")
    assert skeleton_scan.scan(file.scanned(), "x") == expected
    assert made.fetched < file.size / 2
    made.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64])
def test_a_peek_sees_what_the_array_holds(file: RemoteFile, dtype: Any) -> None:
    values = np.frombuffer(CONTENT, dtype, 96 * 200, 64).reshape(96, 200)
    peek = Peek(file, 64, np.frombuffer(file.buffer, dtype, 96 * 200, 64).reshape(96, 200))
    assert (peek.shape, peek.dtype, peek.ndim, peek.size, len(peek)) == ((96, 200), values.dtype, 2, 19_200, 96)
    rows = np.array([90, 3, 3])
    for key in (slice(4, 7), rows, 5, -1, (slice(60, 62), np.array([1, 199])), slice(0, 0)):
        assert peek[key].tobytes() == values[key].tobytes()
    assert file.fetched < values.nbytes
    assert peek.reshape(-1)[:50].tobytes() == values.reshape(-1)[:50].tobytes()
    assert peek.reshape((48, 400))[3:5].tobytes() == values.reshape(48, 400)[3:5].tobytes()
    assert np.asarray(peek).tobytes() == values.tobytes()
    with np.errstate(invalid="ignore"):  # random bits are no numbers
        assert peek.astype(np.float64).tobytes() == values.astype(np.float64).tobytes()


def test_of_a_file_here_it_is_the_array(tmp_path: Path) -> None:
    write(tmp_path / "out.onnx", external=True)
    with open_model(tmp_path / "out.onnx") as source:
        tensor = source.model().graph.initializers["w"].const_value
        assert isinstance(tensor, ir.ExternalTensor) and isinstance(peeked(tensor), np.ndarray)

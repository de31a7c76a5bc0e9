"""Data of unknown origin: archives that promise gigabytes, images that are programs or bombs."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover import text
from bot_onnx._recover.data import DataOptions, read_data
from bot_onnx._runs import archives
from bot_onnx._runs.sample_arrays import read_samples
from bot_onnx.errors import DataError, RecoverError

FLOATS = np.dtype(np.float32)
VALUES = InputSpec("x", FLOATS, ("batch", 1024))
PICTURE = InputSpec("image", FLOATS, ("batch", 3, 4, 6))


@contextmanager
def cheap() -> Iterator[None]:
    """Little time and little memory."""
    started = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5


# -- arrays ------------------------------------------------------------------------------------------------------------


def header(shape: tuple[int, ...]) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return made.getvalue()


@pytest.mark.parametrize("shape", [(2 << 20, 1024), (1 << 62, 1024), (1 << 40, 1 << 40)])
def test_a_header_that_asks_for_gigabytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", header(shape) + bytes(4096))
    with cheap(), pytest.raises(DataError, match=r"array 'x' of .* should take [\d,]+ bytes and has"):
        read_samples(tmp_path / "data.npz", [VALUES])


def test_an_archive_that_unfolds_into_gigabytes(tmp_path: Path) -> None:
    """Deflate makes a thousandth of zeros: 2 GiB lie in 2 MB. The values are never unfolded."""
    rows = 1 << 19
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    block, start = bytes(1 << 20), header((rows, 1024))
    content = packer.compress(start) + packer.compress(block)
    packed = content + packer.flush()
    with zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("x.npy", packed)
    raw = bytearray((tmp_path / "data.npz").read_bytes())
    claimed = struct.pack("<I", len(start) + rows * 4096)
    for signature, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        place = raw.index(signature)
        raw[place + method : place + method + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        raw[place + size : place + size + 4] = claimed
    (tmp_path / "data.npz").write_bytes(raw)
    with cheap(), pytest.raises(DataError, match=r"unfolds from [\d,]+ bytes into 2,147,483"):
        read_samples(tmp_path / "data.npz", [VALUES])


def test_arrays_that_nobody_wants_may_be_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=np.ones((9, 1024), FLOATS), other=np.zeros(1 << 20))
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 16)
    assert len(read_samples(tmp_path / "data.npz", [VALUES])) == 9
    with pytest.raises(DataError, match="unfolds"):
        archives.check_archive(tmp_path / "data.npz")


@pytest.mark.parametrize("order", ["C", "F"])
def test_sound_archives_pass(tmp_path: Path, order: str) -> None:
    values = np.asarray(np.random.default_rng(0).standard_normal((9, 1024)), FLOATS, order=order)  # type: ignore[call-overload]
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "data.npz", x=values)
        assert np.array_equal(read_samples(tmp_path / "data.npz", [VALUES]).arrays["x"], values)


# -- images ------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: int = 10) -> bytes:
    """A head that says so many pixels, and some rows of them."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes((1 + 3 * width) * rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def noise(kind: str) -> bytes:
    image = pytest.importorskip("PIL.Image")
    made = io.BytesIO()
    image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)).save(made, kind)
    return made.getvalue()


def read(folder: Path, name: str, content: bytes) -> tuple[int, ...]:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / name).write_bytes(content)
    return read_data(folder / "images", [PICTURE], DataOptions(), [], {}).arrays["image"].shape


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(started) = showpage\n%%EOF\n"


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.tiff"])
def test_postscript_starts_no_program(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL.EpsImagePlugin").gs_binary = None  # looked up once a process
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RecoverError, match=r"cannot be read as an image: it is damaged, or none of PNG"):
        read(tmp_path, name, EPS)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.png", png(60_000, 60_000)),
        ("large.png", png(12_000, 9_000)),  # of which Pillow itself only warns
        ("bomb.ppm", b"P6 1000000 1000000 255\n" + bytes(100)),
        ("bomb.pgm", b"P5 999999999 1 255\n" + bytes(100)),
    ],
)
def test_images_that_unfold_into_gigabytes(tmp_path: Path, name: str, content: bytes) -> None:
    pytest.importorskip("PIL")
    with cheap(), pytest.raises(RecoverError, match=r"pixels.* and 100,000,000 are the most"):
        read(tmp_path, name, content)


def test_an_image_that_is_long_once_it_fits(tmp_path: Path) -> None:
    """9,000,000 x 1 pixels become 36,000,000 x 4 when the shorter side fits."""
    pytest.importorskip("PIL")
    with pytest.raises(RecoverError, match="once its shorter side fits"):
        read(tmp_path, "long.png", png(9_000_000, 1, 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TIFF"])
def test_images_that_end_too_soon(tmp_path: Path, kind: str) -> None:
    whole = noise(kind)
    assert read(tmp_path, "x.png", whole) == (1, 4, 6, 3)  # whatever its name says: data sets are like that
    for share in (0.0, 0.01, 0.3, 0.7):
        with pytest.raises(RecoverError, match=r"x\.png cannot be read as an image: .*; remove it or save it again"):
            read(tmp_path, "x.png", whole[: int(share * len(whole))])


# -- tokenizers --------------------------------------------------------------------------------------------------------

TEXT = [InputSpec(name, np.dtype(np.int64), ("batch", "tokens")) for name in ("input_ids", "attention_mask")]


def tokenised(folder: Path, tokenizer: object, **options: int) -> tuple[int, ...]:
    tokenizer.save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]
    (folder / "lines.txt").write_text("a a\n" * 10)
    data = read_data(folder / "lines.txt", TEXT, DataOptions(folder / "tokenizer.json", **options), [], {})
    return data.feeds(np.arange(len(data)))["input_ids"].shape


def tokenizer_of(*steps: object) -> object:
    library = pytest.importorskip("tokenizers")
    tool = library.Tokenizer(library.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tool.pre_tokenizer = library.pre_tokenizers.Whitespace()
    tool.normalizer = library.normalizers.Sequence(list(steps))
    return tool


def test_a_tokenizer_that_blows_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten letters for one, thirty times: a text of 10^30."""
    library = pytest.importorskip("tokenizers")
    monkeypatch.setattr(text, "_BYTES", 1 << 29)
    monkeypatch.setattr(text, "_SECONDS", 20)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    with pytest.raises(RecoverError, match=r"tokenizer\.json (cannot encode the text|takes more than 20 seconds)"):
        tokenised(tmp_path, tokenizer_of(*[library.normalizers.Replace("a", "a" * 10)] * 30))


def test_a_tokenizer_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tokens.py"
    program.write_text("import signal, sys, time\nsignal.alarm(int(sys.argv[3]))\ntime.sleep(60)\n")
    monkeypatch.setattr(text, "PROGRAM", program)
    monkeypatch.setattr(text, "_SECONDS", 1)
    with pytest.raises(RecoverError, match=r"takes more than 1 seconds for 10 lines: give the tokenizer\.json"):
        tokenised(tmp_path, tokenizer_of())


def test_a_tokenizer_that_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tokens.py"
    program.write_text("import os, sys\nprint('thread panicked', file=sys.stderr, flush=True)\nos.abort()\n")
    monkeypatch.setattr(text, "PROGRAM", program)
    with pytest.raises(RecoverError, match=r"cannot encode the text \(exit code -6: thread panicked\)"):
        tokenised(tmp_path, tokenizer_of())


def test_a_tokenizer_that_is_sound(tmp_path: Path) -> None:
    assert tokenised(tmp_path, tokenizer_of()) == (10, 2)

"""Data as people have them: JSON lines, tables, saved datasets, several files, samples of a program."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.data import DataOptions, Origin, read_data
from bot_onnx._recover.dataset import Dataset
from bot_onnx.errors import MissingRuntimeError, RecoverError

INTS, FLOATS = np.dtype(np.int64), np.dtype(np.float32)
TEXT = [InputSpec(name, INTS, ("batch", "tokens")) for name in ("input_ids", "attention_mask")]
VECTOR = InputSpec("features", FLOATS, ("batch", 3))
PICTURE = InputSpec("image", FLOATS, ("batch", 3, 2, 2))


def read(data: Any, *specs: InputSpec, rows: dict[str, int] | None = None, **options: Any) -> Dataset:
    return read_data(data, specs, DataOptions(**options), [], rows or {})


def feeds(data: Dataset, *chosen: int) -> dict[str, Any]:
    return {name: array.tolist() for name, array in data.feeds(np.array(chosen)).items()}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "[PAD]", "one", "two", "three", "four"]
    tool = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tool.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tool.save(str(path))
    return path


def json_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def png(colour: tuple[int, int, int]) -> bytes:
    from PIL import Image

    made = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(made, "PNG")
    return made.getvalue()


# -- JSON lines --------------------------------------------------------------------------------------------------------


def test_a_field_of_json_lines_is_the_text(tokenizer: Path, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", {"id": "x", "text": "one two"}, {"text": "three"}, {"text": " "})
    data = read(path, *TEXT, tokenizer=tokenizer)
    assert len(data) == 2
    assert feeds(data, 0, 1) == {"input_ids": [[2, 3], [4, 1]], "attention_mask": [[1, 1], [1, 0]]}
    other = json_lines(tmp_path / "b.jsonl", {"title": "one", "body": "four"})
    assert feeds(read(other, *TEXT, tokenizer=tokenizer, field="body"), 0)["input_ids"] == [[5]]
    with pytest.raises(RecoverError, match=r"b\.jsonl, line 1 has the fields title, body: .* --field"):
        read(other, *TEXT, tokenizer=tokenizer)
    with pytest.raises(RecoverError, match=r"line 1 has no field 'words'; it has title, body"):
        read(other, *TEXT, tokenizer=tokenizer, field="words")


def test_json_lines_of_inputs_are_padded(tmp_path: Path) -> None:
    rows = [{"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1]}, {"input_ids": [8], "attention_mask": [1]}]
    data = read(json_lines(tmp_path / "a.jsonl", *rows), *TEXT)
    assert data.mask == "attention_mask" and data.lengths is not None and data.lengths.tolist() == [3, 1]
    assert feeds(data, 1, 0) == {"input_ids": [[8, 0, 0], [5, 6, 7]], "attention_mask": [[1, 0, 0], [1, 1, 1]]}
    assert feeds(data, 1) == {"input_ids": [[8]], "attention_mask": [[1]]}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (['{"text": "one"}', "{"], r"odd\.jsonl, line 2 is no JSON"),
        (['{"text": "one"}', "3"], r"odd\.jsonl, line 2 is '3'"),
        (['{"text": "one"}', '{"other": "two"}'], r"odd\.jsonl, line 2 has no field 'text'"),
        (['{"text": "one"}', '{"text": 5}'], r"odd\.jsonl, line 2: field 'text' is int, no text"),
        ([], r"odd\.jsonl holds no samples"),
    ],
)
def test_lines_that_are_odd_are_named(rows: list[str], told: str, tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text("\n".join(rows))
    with pytest.raises(RecoverError, match=told):
        read(tmp_path / "odd.jsonl", *TEXT, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"features": [1, 2]}, r"line 2: 'features' is \[2\], and a sample of the model is \[3\]"),
        ({"features": [1, 2, "x"]}, "line 2: 'features' is list, no array of numbers"),
        ({"features": [1, 2, float("nan")]}, "line 2: 'features' holds NaN"),
        ({"other": 1}, "line 2 has no field 'features', which is an input"),
    ],
)
def test_arrays_that_do_not_fit_are_named(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", {"features": [1, 2, 3]}, row)
    with pytest.raises(RecoverError, match=told):
        read(path, VECTOR)


def test_ids_beyond_the_table_and_lengths_without_a_mask(tokenizer: Path, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", {"input_ids": [1, 2]}, {"input_ids": [9, 1]})
    with pytest.raises(RecoverError, match=r"line 2: 'input_ids' goes from 1 to 9, and the model's table has 5 rows"):
        read(path, TEXT[0], rows={"input_ids": 5})
    uneven = json_lines(tmp_path / "b.jsonl", {"input_ids": [1, 2]}, {"input_ids": [3]})
    with pytest.raises(RecoverError, match="samples of 1 to 2 numbers, and no input is called attention_mask"):
        read(uneven, TEXT[0])
    lines = json_lines(tmp_path / "c.jsonl", {"text": "one"}, {"text": "two four"})
    with pytest.raises(RecoverError, match=r"c\.jsonl, line 2: .* gives token 5, and the model knows 5"):
        read(lines, *TEXT, tokenizer=tokenizer, rows={"input_ids": 5})


# -- several files, patterns ------------------------------------------------------------------------------------------


def test_several_files_and_patterns(tokenizer: Path, tmp_path: Path) -> None:
    for name, line in (("a-1.txt", "one"), ("a-2.txt", "two"), ("b.txt", "three")):
        (tmp_path / name).write_text(line + "\n")
    data = read([tmp_path / "b.txt", str(tmp_path / "a-*.txt")], *TEXT, tokenizer=tokenizer)
    assert feeds(data, 0, 1, 2)["input_ids"] == [[4], [2], [3]]
    assert data.notes == ("3 lines of b.txt and 2 more, 1 tokens on average",)
    with pytest.raises(RecoverError, match=r"there is no data at .*c-"):
        Origin.of(str(tmp_path / "c-*.txt"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecoverError, match="beside a folder: give samples of one kind"):
        read([tmp_path / "folder", tmp_path / "b.txt"], PICTURE)


# -- tables ------------------------------------------------------------------------------------------------------------


def table(**columns: list[Any]) -> Any:
    return pytest.importorskip("pyarrow").table(columns)


def test_parquet_files_and_folders_of_them(tokenizer: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "data").mkdir()
    for number, text in enumerate(("one", "two three", "four")):
        parquet.write_table(table(text=[text], label=[number]), tmp_path / "data" / f"part-{number}.parquet")
    assert feeds(read(tmp_path / "data", *TEXT, tokenizer=tokenizer), 0, 1, 2)["input_ids"] == [[2, 1], [3, 4], [5, 1]]
    one = read(tmp_path / "data" / "part-1.parquet", *TEXT, tokenizer=tokenizer)
    assert feeds(one, 0)["input_ids"] == [[3, 4]]
    parquet.write_table(table(features=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), tmp_path / "v.parquet")
    data = read(tmp_path / "v.parquet", VECTOR)
    assert feeds(data, 1) == {"features": [[4.0, 5.0, 6.0]]}
    parquet.write_table(table(features=[[1.0, 2.0, 3.0], None]), tmp_path / "w.parquet")
    with pytest.raises(RecoverError, match=r"w\.parquet, row 2 has no field 'features'"):
        read(tmp_path / "w.parquet", VECTOR)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(RecoverError, match=r"x\.parquet cannot be read as a table"):
        read(tmp_path / "x.parquet", VECTOR)


def saved(folder: Path, made: Any, *, stream: bool = True, indices: list[Any] | None = None) -> Path:
    """As ``datasets``' save_to_disk does: Arrow's stream, and a state that names the files."""
    arrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    name = "data-00000-of-00001.arrow"
    opening = arrow.ipc.new_stream if stream else arrow.ipc.new_file
    with opening(str(folder / name), made.schema) as writer:
        writer.write_table(made, max_chunksize=2)
    (folder / "dataset_info.json").write_text("{}")
    state = {"_data_files": [{"filename": name}], "_split": "train", "_indices_data_files": indices}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


@pytest.mark.parametrize("stream", [True, False])
def test_a_saved_dataset(stream: bool, tokenizer: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", table(text=["one", "two", "three four", "one", "two"]), stream=stream)
    data = read(folder, *TEXT, tokenizer=tokenizer)
    assert len(data) == 5 and feeds(data, 2)["input_ids"] == [[4, 5]]
    arrow = read(folder / "data-00000-of-00001.arrow", *TEXT, tokenizer=tokenizer)
    assert arrow.digest() == data.digest()


def test_splits_and_choices_of_rows_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "both" / "train", table(text=["one"]))
    saved(tmp_path / "both" / "test", table(text=["one"]))
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(RecoverError, match="holds the splits test, train: name one"):
        read(tmp_path / "both", *TEXT)
    chosen = saved(tmp_path / "chosen", table(text=["one"]), indices=[{"filename": "indices.arrow"}])
    with pytest.raises(RecoverError, match="flatten_indices"):
        read(chosen, *TEXT)


def test_images_in_a_table(tmp_path: Path) -> None:
    """The struct of bytes and path that ``datasets`` has for an image, and bytes alone."""
    parquet = pytest.importorskip("pyarrow.parquet")
    colours = [(255, 0, 0), (0, 0, 255)]
    pairs = [{"bytes": png(colour), "path": f"{colour}.png"} for colour in colours]
    parquet.write_table(table(image=pairs, label=[0, 1], caption=["red", "blue"]), tmp_path / "a.parquet")
    parquet.write_table(table(picture=[png(colour) for colour in colours]), tmp_path / "b.parquet")
    for name in ("a.parquet", "b.parquet"):
        made = read(tmp_path / name, PICTURE, mean=(0.0,), deviation=(1.0,)).feeds(np.array([0, 1]))["image"]
        assert made[:, :, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    parquet.write_table(table(picture=[png((0, 0, 0)), b"\x89PNG"]), tmp_path / "c.parquet")
    with pytest.raises(RecoverError, match=r"c\.parquet, row 2 cannot be read as an image"):
        read(tmp_path / "c.parquet", PICTURE)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    import importlib

    monkeypatch.setattr(importlib, "import_module", lambda name: missing(name))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingRuntimeError, match=r"pyarrow is needed to read Parquet and Arrow.*\[data\]"):
        read(tmp_path / "a.parquet", VECTOR)


# -- samples of a program ----------------------------------------------------------------------------------------------


def test_a_function_a_generator_and_a_list(tokenizer: Path) -> None:
    def samples() -> Iterator[dict[str, Any]]:
        for number in range(10):
            yield {"features": np.full(3, number, np.float32), "more": "of it"}

    for given in (samples, samples(), list(samples())):
        data = read(given, VECTOR)
        assert len(data) == 10 and feeds(data, 7) == {"features": [[7.0, 7.0, 7.0]]}
    assert feeds(
        read(["one two", "three"][:0] or (word for word in ("one two", "four")), *TEXT, tokenizer=tokenizer), 1
    )["input_ids"] == [[5]]
    constant = InputSpec("rate", FLOATS, ())
    data = read([{"features": [1, 2, 3], "rate": 2}] * 3, VECTOR, constant)
    assert data.fixed == {"rate"} and data.feeds(np.array([0]))["rate"] == 2
    with pytest.raises(RecoverError, match="sample 1: 'rate' is the same for all samples"):
        read([{"features": [1, 2, 3], "rate": 2}, {"features": [1, 2, 3], "rate": 3}], VECTOR, constant)
    with pytest.raises(RecoverError, match="sample 1 is list: give an object of fields"):
        read(({"features": [1, 2, 3]} if not n else [1] for n in range(2)), VECTOR)
    with pytest.raises(RecoverError, match="there are no samples: nothing was given"):
        read(lambda: [], VECTOR)
    with pytest.raises(RecoverError, match="int is no data"):
        read(5, VECTOR)


def test_pillows_images_are_samples() -> None:
    from PIL import Image

    data = read(({"image": Image.new("RGB", (2, 2), (0, 255, 0))} for _ in range(3)), PICTURE, field="image")
    assert len(data) == 3


def test_what_is_read_is_not_held_in_memory(tmp_path: Path) -> None:
    """Ten times as many samples take no more memory than what stands for them."""

    def samples(count: int) -> Iterator[dict[str, Any]]:
        return ({"features": np.ones(4096, np.float32)} for _ in range(count))

    wide = InputSpec("features", FLOATS, ("batch", 4096))
    tracemalloc.start()
    try:
        data = read(samples(2000), wide)  # 32 MB
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        assert len(data) == 2000 and data.feeds(np.array([1999]))["features"].sum() == 4096
    finally:
        tracemalloc.stop()


@pytest.mark.exporter
def test_samples_of_a_function_teach_what_the_same_arrays_teach(tmp_path: Path) -> None:
    from bot_onnx import recover
    from tests.unit.recover.samples import folder

    here = folder()
    with np.load(here / "digits.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if len(archive[name]) > 1000}

    def samples() -> Iterator[dict[str, Any]]:
        for row in range(len(next(iter(arrays.values())))):
            yield {name: array[row] for name, array in arrays.items()}

    settings = {"steps": 2, "batch": 16, "threads": 1}
    made = [
        recover(here / "small.onnx", here / "teacher.onnx", data, tmp_path / f"{name}.onnx", settings=settings)
        for name, data in (("file", here / "digits.npz"), ("function", samples))
    ]
    assert made[0].loss == made[1].loss and made[0].after == made[1].after
    assert made[1].notes[0] == f"{len(next(iter(arrays.values()))):,} samples, given one by one"

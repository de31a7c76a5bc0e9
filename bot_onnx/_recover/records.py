"""Samples as people have them: lines of text, JSON a line, tables of Parquet and Arrow, one after the other.

A sample is a text, or an object of fields; beside it stands its place (``file, line 3``), for messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bot_onnx._recover.extras import pyarrow
from bot_onnx.errors import RecoverError

Record = tuple[str | Mapping[str, Any], str]
_ROWS: Final = 256  #: of a table that are made at a time
_JSON: Final = frozenset({".jsonl", ".ndjson"})
_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_table(path: Path) -> bool:
    """Whether a path is one of a table: Parquet, Arrow, a folder of either, or a saved dataset."""
    if path.is_dir():
        return (path / _STATE).is_file() or (path / _SPLITS).is_file() or any(path.glob("*.parquet"))
    return path.suffix.lower() in (".parquet", ".arrow")


def records_of(paths: Iterable[Path]) -> Iterator[Record]:
    """All samples of files, in the order of the files.

    Raises:
        RecoverError: one cannot be read. MissingRuntimeError: a table, and pyarrow is not installed.
    """
    for path in paths:
        if is_table(path):
            for file in _tables(path):
                yield from _rows(file)
        elif path.suffix.lower() in _JSON:
            yield from _objects(path)
        else:
            yield from _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            place = f"{path}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise RecoverError(f"{place} is no UTF-8 text: save it so, a sample a line") from error
            if line:
                yield line, place


def _objects(path: Path) -> Iterator[Record]:
    for line, place in _lines(path):
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecoverError(f"{place} is no JSON ({error}): give an object or a text a line") from error
        if not isinstance(told, dict | str):
            raise RecoverError(f"{place} is {line[:40]!r}: give an object or a text a line")
        yield told, place


# -- tables --------------------------------------------------------------------------------------------------------


def _tables(path: Path) -> list[Path]:
    """The files of a table."""
    if not path.is_dir():
        return [path]
    if (path / _SPLITS).is_file():
        found = sorted(inner.name for inner in path.iterdir() if (inner / _STATE).is_file())
        raise RecoverError(f"{path} holds the splits {', '.join(found) or 'none'}: name one, {path / 'train'}")
    if not (path / _STATE).is_file():
        return sorted(path.glob("*.parquet"))
    try:
        told = json.loads((path / _STATE).read_text(encoding="utf-8"))
        files = [path / str(entry["filename"]) for entry in told["_data_files"]]
        indices = told.get("_indices_data_files") or told.get("_indices_files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecoverError(f"{path / _STATE} says of no files: save the dataset again (save_to_disk)") from error
    if indices:
        raise RecoverError(f"{path} is a choice of rows of a dataset: save it with dataset.flatten_indices()")
    odd = next((file for file in files if file.parent != path or not file.is_file()), None)
    if odd is not None:
        raise RecoverError(f"{path / _STATE} names {odd.name}, which does not lie beside it")
    return files


def _rows(path: Path) -> Iterator[Record]:
    number = 0
    for batch in _batches(path):
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                number += 1
                yield row, f"{path}, row {number}"


def _batches(path: Path) -> Iterator[Any]:
    """Batches of rows, which are read as they are asked for."""
    library = pyarrow()
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path, memory_map=True) as file:
                yield from file.iter_batches(batch_size=_ROWS)
            return
        with library.memory_map(str(path)) as mapped:
            for opening in (library.ipc.open_stream, library.ipc.open_file):
                mapped.seek(0)
                try:
                    reader = opening(mapped)
                except library.ArrowInvalid:
                    continue
                yield from _read(reader)
                return
        raise RecoverError(f"{path} is no Arrow file")
    except (OSError, library.ArrowException) as error:
        told = " ".join(str(error).split())[:200]
        raise RecoverError(f"{path} cannot be read as a table: {told}; write it again") from error


def _read(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        yield from (reader.get_batch(place) for place in range(reader.num_record_batches))
    else:
        yield from reader

"""Lines of text as the inputs of a language model."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.extras import tokenizers
from bot_onnx._recover.rows import Padded, Places, Rows, Spool, starts_of
from bot_onnx._recover.tokens import UNREADABLE
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError

TOKENIZER = "tokenizer.json"
_IDS, _MASK, _TYPES, _POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
PROGRAM = Path(__file__).with_name("tokens.py")
_LINES, _LETTERS = 50_000, 1 << 24  #: that one process is given
_SECONDS, _BYTES = 60, 4 << 30  #: what a tokenizer may take, besides what its text and its own size are reason for


def read_text(
    lines: Iterable[tuple[str, str]],
    specs: Sequence[InputSpec],
    tokenizer: Path,
    length: int,
    rows: int | None,
    label: str,
) -> Dataset:
    """Tokenise texts, a sample each; what comes of them lies in a file without a name.

    They are cut at ``length`` tokens and padded. Where the model takes no attention mask, nothing would keep padding
    apart, so all are joined and cut into pieces of equal length.

    Args:
        lines: the texts, each with its place.
        specs: inputs of the model: ``input_ids``, and any of ``attention_mask``, ``token_type_ids``, ``position_ids``.
        tokenizer: a ``tokenizer.json``.
        length: most tokens a sample.
        rows: number of rows of the table that the ids address, if it is known.
        label: how notes call the data.

    Raises:
        RecoverError: an input is of another name, or the tokenizer does not fit.
    """
    by_name = {spec.name: spec for spec in specs}
    unknown = [name for name in by_name if name not in (_IDS, _MASK, _TYPES, _POSITIONS)]
    if unknown or _IDS not in by_name:
        told = f"input {unknown[0]!r} is not made from text" if unknown else f"no input is called {_IDS}"
        raise RecoverError(
            f"{told}: {_IDS}, {_MASK}, {_TYPES} and {_POSITIONS} are; give the inputs themselves as an .npz file"
        )
    fixed = [spec.shape[1] for spec in specs if len(spec.shape) == 2 and isinstance(spec.shape[1], int)]
    length = int(fixed[0]) if fixed else length
    masked = _MASK in by_name
    found = _encoded(lines, tokenizer, length if masked else None, rows, by_name[_IDS].dtype)
    if not masked:
        return _pieces(found, by_name, length, label)
    width = int(fixed[0]) if fixed else None
    lengths, starts = found.lengths, starts_of(found.lengths)
    made: dict[str, Callable[[np.dtype[Any]], Rows]] = {
        _IDS: lambda kind: Padded(found.ids, starts, lengths, found.padding, kind, width),
        _TYPES: lambda kind: Padded(found.types, starts, lengths, 0, kind, width),
        _MASK: lambda kind: Places(lengths, kind, width),
        _POSITIONS: lambda kind: Places(lengths, kind, width, mask=False),
    }
    arrays = {name: made[name](spec.dtype) for name, spec in by_name.items()}
    mean = float(lengths.mean()) if len(lengths) else 0.0
    note = f"{len(lengths):,} lines{_of(label)}, {mean:.0f} tokens on average"
    return Dataset(arrays, {}, lengths, () if fixed else tuple(arrays), _MASK, notes=(note,))


def _of(label: str) -> str:
    return f" of {label}" if label else ""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Tokens of all texts in a row, those of single ones by their lengths, and the id that pads."""

    ids: Array
    types: Array
    lengths: NDArray[np.int64]
    padding: int


def _encoded(
    lines: Iterable[tuple[str, str]], tokenizer: Path, limit: int | None, rows: int | None, kind: np.dtype[Any]
) -> _Encoded:
    """Encode texts, some thousands at a time."""
    ids, types = Spool(kind), Spool(np.dtype(np.uint8))
    lengths, padding = [np.zeros(0, np.int64)], 0
    for batch in _batches(lines):
        made = _run(tokenizer, [text for text, _ in batch], limit or 0)
        with np.load(io.BytesIO(made), allow_pickle=False) as arrays:
            new, counts, padding = arrays["ids"], arrays["lengths"].astype(np.int64), int(arrays["padding"])
            if rows is not None and new.size and int(new.max()) >= rows:
                place = batch[int(np.searchsorted(np.cumsum(counts), int(np.argmax(new >= rows)), side="right"))][1]
                raise RecoverError(
                    f"{place}: {tokenizer} gives token {int(new[new >= rows][0])}, and the model knows {rows}: take "
                    "the tokenizer that belongs to it, and cut the vocabulary of both where one was (--vocab-from)"
                )
            ids.append(new)
            types.append(arrays["types"])
            lengths.append(counts[counts > 0])
    return _Encoded(ids.array(), types.array(), np.concatenate(lengths), padding)


def _batches(lines: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Texts, as many as one process is given."""
    batch: list[tuple[str, str]] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line[0])
        if len(batch) >= _LINES or size >= _LETTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _run(tokenizer: Path, lines: list[str], limit: int) -> bytes:
    """Let another process encode ``lines``: the library may end it, and limits hold for it alone."""
    tokenizers()  # says what to install
    given = json.dumps(lines).encode()
    size = len(given) + tokenizer.stat().st_size
    seconds, nbytes = _SECONDS + size // 100_000, _BYTES + 64 * size
    # -P: the folder of the program, which has a types.py, is no place to import from.
    command = [sys.executable, "-P", str(PROGRAM), str(tokenizer), str(limit), str(seconds), str(nbytes)]
    way_out = "give the tokenizer.json that belongs to the model"
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            timeout=seconds + 10,
            env={**os.environ, "RUST_BACKTRACE": "0"},  # what a panic says is one line
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RecoverError(
            f"{tokenizer} takes more than {seconds} seconds for {len(lines)} lines: {way_out}"
        ) from error
    if done.returncode == UNREADABLE:
        raise RecoverError(f"{tokenizer} cannot be read as a tokenizer: {_last(done.stderr)}; {way_out}")
    if done.returncode == -getattr(signal, "SIGALRM", 0):
        raise RecoverError(f"{tokenizer} takes more than {seconds} seconds for {len(lines)} lines: {way_out}")
    if done.returncode:
        raise RecoverError(
            f"{tokenizer} cannot encode the text (exit code {done.returncode}: {_last(done.stderr)}): {way_out}"
        )
    return done.stdout


def _last(told: bytes) -> str:
    """The last line that a process has said."""
    lines = [" ".join(line.split()) for line in told.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "without a word"


def _pieces(found: _Encoded, by_name: Mapping[str, InputSpec], length: int, label: str) -> Dataset:
    count = len(found.ids) // length
    ids = found.ids[: count * length].reshape(-1, length)
    made: dict[str, Array] = {
        _IDS: ids,
        _TYPES: np.broadcast_to(np.zeros(1, np.int64), ids.shape),
        _POSITIONS: np.broadcast_to(np.arange(length), ids.shape),
    }
    arrays = {name: made[name].astype(spec.dtype, copy=False) for name, spec in by_name.items()}
    return Dataset(arrays, notes=(f"{count:,} pieces of {length} tokens{_of(label)}",))

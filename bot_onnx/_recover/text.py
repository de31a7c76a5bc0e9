"""Lines of text as the inputs of a language model."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.extras import tokenizers
from bot_onnx._recover.tokens import UNREADABLE
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError

TOKENIZER = "tokenizer.json"
_IDS, _MASK, _TYPES, _POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
PROGRAM = Path(__file__).with_name("tokens.py")
_SECONDS, _BYTES = 60, 4 << 30  #: what a tokenizer may take, besides what its text and its own size are reason for


def read_text(path: Path, specs: Sequence[InputSpec], tokenizer: Path, length: int, rows: int | None) -> Dataset:
    """Tokenise a file, a sample a line.

    Lines are cut at ``length`` tokens and padded. Where the model takes no attention mask, nothing would keep padding
    apart, so all lines are joined and cut into pieces of equal length.

    Args:
        path: the text, UTF-8.
        specs: inputs of the model: ``input_ids``, and any of ``attention_mask``, ``token_type_ids``, ``position_ids``.
        tokenizer: a ``tokenizer.json``.
        length: most tokens a sample.
        rows: number of rows of the table that the ids address, if it is known.

    Raises:
        RecoverError: an input is of another name, the tokenizer does not fit, or there are too few lines.
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
    encoded, types, padding = _encode(path, tokenizer, length if _MASK in by_name else None)
    highest = max((max(ids) for ids in encoded if ids), default=0)
    if rows is not None and highest >= rows:
        raise RecoverError(
            f"{tokenizer} gives token {highest}, and the model knows {rows}: take the tokenizer that belongs to it, "
            "and keep the vocabulary when resizing"
        )
    if _MASK not in by_name:
        return _pieces(path, encoded, by_name, length)
    kept = [place for place, ids in enumerate(encoded) if ids]
    lengths = np.array([len(encoded[place]) for place in kept], np.int64)
    width = int(fixed[0]) if fixed else int(lengths.max(initial=1))
    ids = np.full((len(kept), width), padding, np.int64)
    kinds = np.zeros_like(ids)
    for row, place in enumerate(kept):
        ids[row, : lengths[row]] = encoded[place]
        kinds[row, : lengths[row]] = types[place]
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    made = {_IDS: ids, _MASK: mask, _TYPES: kinds, _POSITIONS: np.maximum(np.cumsum(mask, 1) - 1, 0)}
    arrays = {name: made[name].astype(spec.dtype) for name, spec in by_name.items()}
    note = f"{len(kept):,} lines of {path.name}, {float(lengths.mean()) if kept else 0:.0f} tokens on average"
    return Dataset(arrays, {}, lengths, () if fixed else tuple(arrays), _MASK, notes=(note,))


def _encode(path: Path, tokenizer: Path, limit: int | None) -> tuple[list[list[int]], list[list[int]], int]:
    """Ids and types of every line, and the id that pads."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecoverError(f"{path} is no UTF-8 text: save it so, a sample a line") from error
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    with np.load(io.BytesIO(_run(tokenizer, lines, limit or 0)), allow_pickle=False) as made:
        ends = np.cumsum(made["lengths"])[:-1]
        ids, types = ([part.tolist() for part in np.split(made[name], ends)] for name in ("ids", "types"))
        return (ids, types, int(made["padding"])) if lines else ([], [], int(made["padding"]))


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


def _pieces(path: Path, encoded: Sequence[Sequence[int]], by_name: dict[str, InputSpec], length: int) -> Dataset:
    stream = np.array([token for ids in encoded for token in ids], np.int64)
    ids = stream[: len(stream) // length * length].reshape(-1, length)
    made: dict[str, Array] = {
        _IDS: ids,
        _TYPES: np.zeros_like(ids),
        _POSITIONS: np.tile(np.arange(length), (len(ids), 1)),
    }
    arrays = {name: made[name].astype(spec.dtype) for name, spec in by_name.items()}
    return Dataset(arrays, notes=(f"{len(ids):,} pieces of {length} tokens of {path.name}",))

"""A finished model under another path: published as any output is, with its data file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot_onnx._onnxfile.atomic_output import StagedFile, Staging, worded
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.writer import StrPath, check_output
from bot_onnx.errors import OutputError

_CHUNK: Final = 1 << 24


def copy_model(model: Path, target: Path, *, force: bool, sources: Sequence[StrPath] = ()) -> None:
    """Copy a model that this tool has written to where it shall stand; both files appear whole, or neither.

    The data file keeps its name, which the model says. What only an older model under ``target`` read goes with it.

    Args:
        model: the file. target: its new path. force: replace a model that stands there.
        sources: files that it must not be, whatever name it goes by.

    Raises:
        OutputError: it may not or cannot be written; what was there before is untouched.
    """
    data = named_files(model)
    if len(data) > 1:
        raise OutputError(f"{model} keeps its weights in {len(data)} files: only one can go along with a model")
    check_output(target, force=force, sources=[model, *data, *sources])
    with Staging(target, data=bool(data)) as staging:
        with worded(target):
            lengths = [model.stat().st_size, sum(file.stat().st_size for file in data)]
        staging.reserve(*lengths)
        _fill(staging.model, model)
        if staging.data is not None:
            staging.data.target = target.with_name(data[0].name)
            _fill(staging.data, data[0])
        staging.publish(force=force)


def _fill(staged: StagedFile, source: Path) -> None:
    position = 0
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            staged.write_at(position, chunk)
            position += len(chunk)
    staged.sync()

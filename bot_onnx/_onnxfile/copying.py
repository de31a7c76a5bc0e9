"""A finished model under another path: published as any output is, with its data files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot_onnx._onnxfile.atomic_output import StagedFile, Staging, worded
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.read_only import StrPath, refuse_source
from bot_onnx._onnxfile.writer import check_output

_CHUNK: Final = 1 << 24


def copy_model(model: Path, target: Path, *, force: bool, sources: Sequence[StrPath] = ()) -> None:
    """Copy a model that this tool has written to where it shall stand; all files appear whole, or none.

    Data files keep their names, which the model says. What only an older model under ``target`` read goes with it.

    Args:
        model: the file. target: its new path. force: replace a model that stands there.
        sources: files that it must not be, whatever name it goes by.

    Raises:
        OutputError: it may not or cannot be written; what was there before is untouched.
    """
    data = named_files(model)
    check_output(target, force=force, sources=[model, *data, *sources])
    with Staging(target, data=len(data)) as staging:
        with worded(target):
            lengths = [file.stat().st_size for file in (model, *data)]
        staging.reserve(*lengths)
        _fill(staging.model, model)
        for file, source in zip(staging.data, data, strict=True):
            file.target = target.with_name(source.name)
            refuse_source(file.target, sources)
            _fill(file, source)
        staging.publish(force=force)


def _fill(staged: StagedFile, source: Path) -> None:
    position = 0
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            staged.write_at(position, chunk)
            position += len(chunk)
    staged.sync()

"""Checkpoints on disk: the safetensors format, one file or a folder with an index of several."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from bot_onnx._checkpoint.types import Array, Shape
from bot_onnx._installing import install
from bot_onnx._onnxfile.atomic_output import Staging
from bot_onnx._onnxfile.writer import check_output
from bot_onnx.errors import CheckpointError

INDEX = "model.safetensors.index.json"

#: What the format calls its data types, by ONNX data type.
DTYPES = {
    ir.DataType.INT64: "I64",
    ir.DataType.INT32: "I32",
    ir.DataType.BOOL: "BOOL",
    ir.DataType.DOUBLE: "F64",
    ir.DataType.FLOAT: "F32",
    ir.DataType.FLOAT16: "F16",
    ir.DataType.BFLOAT16: "BF16",
}

#: What the format calls the data types that NumPy has, bfloat16 among them.
_READABLE = frozenset({*DTYPES.values(), *"I16 I8 U8 U16 U32 U64".split()})


class SafetensorsFile:
    """A checkpoint in safetensors files; tensors are read when asked for.

    Attributes:
        path: as it was named.
        shapes: by key, over all files, in their order.
        buffers: keys of whole numbers or truth values.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it.

        Args:
            path: a ``.safetensors`` file, an index of several, or a folder that holds ``model.safetensors`` or such an
                index.

        Raises:
            CheckpointError: there is no such file, it is damaged, or the library is missing.
        """
        self.path = os.fspath(path)
        self.shapes: dict[str, Shape] = {}
        self._homes: dict[str, Any] = {}
        self._kinds: dict[str, str] = {}
        whole: set[str] = set()
        safe_open = _library().safe_open
        for file in checkpoint_files(Path(path)):
            try:
                opened = safe_open(file, framework="np")
                with opened as handle:
                    for key in handle.keys():  # noqa: SIM118 (the handle is no mapping)
                        if key in self.shapes:
                            raise CheckpointError(f"{self.path} holds {key!r} twice: keep one of its files")
                        view = handle.get_slice(key)
                        self.shapes[key] = tuple(view.get_shape())
                        kind = self._kinds[key] = str(view.get_dtype())
                        if kind[0] in "IUB" and kind != "BF16":
                            whole.add(key)
                        self._homes[key] = file
            except (OSError, _library().SafetensorError) as error:
                raise CheckpointError(f"{file} is no safetensors file: {error}; save or download it again") from error

        self.buffers = frozenset(whole)

    def read(self, key: str) -> Array:
        """Values of one tensor.

        Raises:
            CheckpointError: there is no such key, or NumPy has no such data type.
        """
        if key not in self._homes:
            raise CheckpointError(f"{self.path} has no tensor {key!r}")
        if self._kinds[key] not in _READABLE:
            raise CheckpointError(
                f"{self.path} holds {key!r} as {self._kinds[key]}, whose numbers mean nothing without the framework's "
                "scales: save the checkpoint as F32, F16 or BF16"
            )
        with _library().safe_open(self._homes[key], framework="np") as handle:
            return np.asarray(handle.get_tensor(key))


class ArrayCheckpoint:
    """A checkpoint in memory.

    Attributes:
        path: what it is called in messages.
        shapes: by key.
        buffers: keys of whole numbers or truth values.
    """

    def __init__(self, arrays: Mapping[str, Array], path: str = "the checkpoint") -> None:
        """Take arrays by key."""
        self.path = path
        self._arrays = {key: np.asarray(values) for key, values in arrays.items()}
        self.shapes: dict[str, Shape] = {key: values.shape for key, values in self._arrays.items()}
        self.buffers = frozenset(key for key, values in self._arrays.items() if values.dtype.kind in "iub")

    def read(self, key: str) -> Array:
        """Values of one tensor."""
        return self._arrays[key]


def save(
    path: Path,
    arrays: Mapping[str, Array],
    *,
    force: bool,
    sources: Sequence[str | os.PathLike[str]] = (),
    beside: tuple[str, str] | None = None,
    before_publish: Callable[[], None] | None = None,
) -> None:
    """Write arrays as a safetensors file, which appears whole or not at all.

    Args:
        path: of the file.
        arrays: values by key.
        force: replace an existing file.
        sources: files that it must not be.
        beside: name and text of a file that goes into the same folder; both appear, or neither.
        before_publish: called when the file is whole. If it raises, nothing appears.

    Raises:
        OutputError: the path may not or cannot be written.
        CheckpointError: the library is missing.
    """
    safe_open = _library().safe_open
    path = path.absolute()
    check_output(path, force=force, sources=sources)
    header, offsets = _frame(arrays)
    end = len(header) + sum(values.nbytes for values in arrays.values())
    text = b"" if beside is None else beside[1].encode()
    with Staging(path, second=None if beside is None else path.parent / beside[0]) as staging:
        staging.reserve(end, *([] if staging.second is None else [len(text)]))
        if staging.second is not None:
            staging.second.write_at(0, text)
            staging.second.sync()
        staging.model.write_at(0, header)
        for key, offset in offsets.items():  # one at a time: the arrays are views of files, and may be large
            little = np.ascontiguousarray(arrays[key], dtype=arrays[key].dtype.newbyteorder("<"))
            staging.model.write_at(len(header) + offset, little.reshape(-1).view(np.uint8).data)
        staging.model.sync()
        with safe_open(os.fspath(staging.readable()), framework="np") as written:  # the library checks what it opens
            assert set(written.keys()) == set(arrays)
        if before_publish is not None:
            before_publish()
        staging.publish(force=force)


def _frame(arrays: Mapping[str, Array]) -> tuple[bytes, dict[str, int]]:
    """The beginning of a safetensors file, and where after it every array stands: the widest types first, aligned."""
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for key, values in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        dtype = DTYPES[ir.DataType.from_numpy(values.dtype)]
        offsets[key] = end
        end += values.nbytes
        described[key] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offsets[key], end]}
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offsets


def _library() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise CheckpointError(f"safetensors is not installed: {install('safetensors')}") from error
    return safetensors


def checkpoint_files(path: Path) -> list[Path]:
    """The safetensors files that a path stands for.

    Raises:
        CheckpointError: it stands for none.
    """
    if path.is_dir():
        inside = [path / name for name in ("model.safetensors", INDEX) if (path / name).is_file()]
        if not inside:
            raise CheckpointError(f"{path} holds no model.safetensors and no {INDEX}: name the checkpoint's file")
        path = inside[0]
    if not path.is_file():
        raise CheckpointError(f"there is no file {str(path)!r}: check the path")
    if path.suffix != ".json":
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
            raise CheckpointError(f"{path} is a pickle, which is not read here: save it as safetensors first")
        return [path]
    try:
        names = dict.fromkeys(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, RecursionError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no index of safetensors files: it has no 'weight_map'") from error
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise CheckpointError(f"{path} names {outside[0]!r}, which does not lie beside it")
    return [path.parent / name for name in names]

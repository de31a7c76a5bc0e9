"""Where a model comes from: a file, memory, or another place. The engine reads files, so others get one for a while.

What lies in another place (``s3://bucket/model.onnx``) is fetched as it is looked at, among temporary files
(:mod:`bot_onnx._onnxfile.mirror`). What lies in memory goes to a private folder, in memory itself where the system has
a file system there with room enough (``/dev/shm``), else among temporary files. Both are gone with the block, and what
a killed process leaves goes with the next run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir as ir

from bot_onnx._onnxfile.addresses import Address, as_address
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.mirror import Mirror
from bot_onnx._onnxfile.reader import Source, open_mirror, open_model
from bot_onnx._onnxfile.scratch import Scratch, sweep, sweep_beside
from bot_onnx._progress import stage
from bot_onnx.errors import BotError, GraphError

#: What a model may be given as. ``bytes`` are a model, never a path.
ModelLike = str | PathLike[str] | bytes | onnx.ModelProto | ir.Model

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 3  #: times the bytes of a model that must be free in memory: it, its floats, and some air
_INSIDE: Final = 1_500_000_000  #: bytes of weights that a message may hold; protobuf ends at 2 GiB


@dataclass(frozen=True, slots=True, repr=False)
class Origin:
    """Where a model comes from.

    Attributes:
        model: a path, an address, or the model itself.
        label: how messages, plans and reports call it: the path, or ``<bytes>``, ``<ModelProto>``, ``<onnx_ir.Model>``.
    """

    model: ModelLike
    label: str

    @classmethod
    def of(cls, model: ModelLike) -> Origin:
        """Take whatever a model may be given as.

        Raises:
            TypeError: it is none of them.
        """
        if isinstance(model, str | PathLike):
            address = as_address(model)
            return cls(model, str(Path(model))) if address is None else cls(address, str(address))
        if isinstance(model, bytes | bytearray | memoryview):
            return cls(bytes(model), "<bytes>")
        if isinstance(model, onnx.ModelProto):
            return cls(model, "<ModelProto>")
        if isinstance(model, ir.Model):
            return cls(model, "<onnx_ir.Model>")
        raise TypeError(f"a model is a path, bytes, an onnx.ModelProto or an onnx_ir.Model, not {type(model).__name__}")

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The file, for as long as the block runs; messages that leave the block call it by its label.

        Raises:
            GraphError: a message refers to weights in files beside it, of which it does not say where they are.
        """
        if isinstance(self.model, Address):
            with self._mirrored(self.model) as mirror, open_mirror(mirror):
                mirror.complete()
                yield mirror.model
            return
        if isinstance(self.model, str | PathLike):
            sweep_beside(self.model)
            yield Path(self.model)
            return
        with private_folder(_size(self.model)) as folder:
            path = folder / "model.onnx"
            try:
                _write(self.model, path)
                yield path
            except BotError as error:
                error.args = (str(error).replace(str(path), self.label), *error.args[1:])
                raise

    @contextmanager
    def source(self, given: Given | None = None) -> Iterator[Source]:
        """The model, open for as long as the block runs. Of one that lies elsewhere what is looked at is fetched.

        Args:
            given: what it is to be run on.

        Raises:
            GraphError: it cannot be read.
        """
        if isinstance(self.model, Address):
            with self._mirrored(self.model) as mirror, open_mirror(mirror, given) as source:
                yield source
                stage(f"fetched {mirror.fetched} of {source.size_bytes} bytes of {self.label}")
            return
        with self.file() as path, open_model(path, given=given) as source:
            yield source

    @contextmanager
    def _mirrored(self, address: Address) -> Iterator[Mirror]:
        here = Path(tempfile.gettempdir())
        sweep(here)
        with Scratch(here, "bot-onnx") as folder:
            models = folder / "models"
            models.mkdir()
            mirror = Mirror(address, models)
            try:
                yield mirror
            except BotError as error:
                error.args = (str(error).replace(str(models), str(address.parent)), *error.args[1:])
                raise
            finally:
                mirror.close()


@contextmanager
def private_folder(needed: int) -> Iterator[Path]:
    """A folder that no other user can read, gone with the block.

    Args:
        needed: bytes of the model that it is for.
    """
    place = _place(needed)
    sweep(place)
    with Scratch(place, "bot-onnx") as folder:
        models = folder / "models"
        models.mkdir()
        yield models


def _place(needed: int) -> Path:
    try:
        if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM * needed:
            return _MEMORY
    except OSError:
        pass
    return Path(tempfile.gettempdir())


def _size(model: Any) -> int:
    if isinstance(model, bytes):
        return len(model)
    if isinstance(model, onnx.ModelProto):
        return int(model.ByteSize())
    return _weights(model)


def _weights(model: ir.Model) -> int:
    return sum(tensor.nbytes for tensor in _tensors(model))


def _tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    return [value.const_value for value in values if value.const_value is not None]


def _write(model: Any, path: Path) -> None:
    if isinstance(model, bytes):
        path.write_bytes(model)
    elif isinstance(model, onnx.ModelProto):
        _check_whole(model)
        path.write_bytes(model.SerializeToString())
    else:
        beside = _weights(model) > _INSIDE or any(isinstance(one, ir.ExternalTensor) for one in _tensors(model))
        ir.save(model, path, external_data=f"{path.name}.data" if beside else None)


def _check_whole(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise GraphError(
                f"tensor {tensor.name!r} of <ModelProto> lies in a file beside a model, and a message does not say "
                "where that is: give the path of the model, or load it with its data (onnx.load(path))"
            )

"""Samples for a model's inputs, read from an ``.npz`` file of arrays named as the inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._runs.archives import check_archive
from bot_onnx._runs.inputs import input_specs
from bot_onnx.errors import DataError

Array = NDArray[Any]

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")  #: what a .npz file, an empty one and a .npy file begin with


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs of a model for a number of samples.

    Attributes:
        arrays: ``[samples, …]`` by input. constant: inputs without axes, the same for all samples.
        chunk: samples that the model takes at a time, where it takes a fixed number.
        notes: what was found while reading, in sentences.
    """

    arrays: Mapping[str, Array]
    constant: Mapping[str, Array]
    chunk: int | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of samples."""
        return len(next(iter(self.arrays.values())))

    @property
    def unfilled(self) -> int:
        """Samples that are left over when the model has taken its fixed number as often as it can."""
        return len(self) % (self.chunk or 1)

    def batches(self, size: int) -> Iterator[dict[str, Array]]:
        """Inputs of ``size`` samples at a time, or of as many as the model takes: what is left over then repeats."""
        step = self.chunk or size
        for start in range(0, len(self), step):
            rest = min(step, len(self) - start)
            yield self._at(slice(start, start + rest) if not self.chunk or rest == step else start + _turns(step, rest))

    def weighed(self, size: int, *, alone: bool = False) -> Iterator[tuple[float, dict[str, Array]]]:
        """Inputs as of :meth:`batches`, such that every sample counts alike, and what a run of them counts.

        Where the model takes a fixed number, what is left over is run sample by sample, each repeated to that number
        and counting one part of it: what is added up over all positions is then right wherever the samples lie.

        Args:
            size: number of samples.
            alone: run all samples like that, so that no run has two of them; ``size`` is 1.
        """
        step = self.chunk or size
        whole = len(self) - self.unfilled if self.chunk else len(self)
        if alone and step > 1:
            whole = 0
        for start in range(0, whole, step):
            yield 1.0, self._at(slice(start, start + step))
        for number in range(whole, len(self)):
            yield 1.0 / step, self.repeated(number)

    def repeated(self, number: int) -> dict[str, Array]:
        """Inputs of one sample, as often as the model takes samples at a time."""
        return self._at(np.full(self.chunk or 1, number))

    def _at(self, places: slice | NDArray[np.int64]) -> dict[str, Array]:
        return {**{name: array[places] for name, array in self.arrays.items()}, **self.constant}

    def digest(self) -> str:
        """SHA-256 of all of it."""
        return digest({**self.arrays, **self.constant})


def _turns(count: int, rest: int) -> NDArray[np.int64]:
    """0 to ``rest``, again and again."""
    return np.arange(count) % rest


def digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of names, types, shapes and values."""
    made = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        made.update(f"{name} {array.dtype.str} {array.shape}".encode())
        made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return made.hexdigest()


def read_samples(path: Path, specs: Sequence[InputSpec], rows: Mapping[str, int] | None = None) -> Samples:
    """Read arrays named as the inputs, samples along axis 0; an input without axes is the same for all samples.

    Args:
        path: an ``.npz`` file.
        specs: inputs of the model.
        rows: number of rows of the table that an input addresses, by input, where it is known.

    Raises:
        DataError: it is no such file, or does not suit the model.
    """
    arrays, others = read_arrays(path, {spec.name for spec in specs})
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise DataError(
            f"{path} has no array {missing[0]!r}: give one for every input ({', '.join(spec.name for spec in specs)}), "
            "with the samples along its first axis"
        )
    checked = {spec.name: _checked(arrays[spec.name], spec, path, (rows or {}).get(spec.name)) for spec in specs}
    batched = {spec.name: checked[spec.name] for spec in specs if spec.shape}
    counts = {len(array): name for name, array in batched.items()}
    if len(counts) != 1:
        told = ", ".join(f"{name} {count}" for count, name in counts.items()) or "none has any"
        raise DataError(f"the arrays of {path} must hold equally many samples: {told}")
    if 0 in counts:
        raise DataError(f"{path} holds no samples: the arrays have none along their first axis")
    notes = (f"arrays of {path.name} that are no inputs: {', '.join(others)}",) if others else ()
    chunk = next((size for spec in specs if spec.shape and isinstance(size := spec.shape[0], int)), None)
    return Samples(batched, {spec.name: checked[spec.name] for spec in specs if not spec.shape}, chunk, notes)


def read_arrays(path: Path, wanted: set[str] | None = None) -> tuple[dict[str, Array], list[str]]:
    """Read an ``.npz`` file.

    Args:
        path: of the file.
        wanted: names of the arrays that are read; None: all.

    Returns:
        Arrays by name, and the names of those that were left.

    Raises:
        DataError: there is no such file, it is damaged, or it holds anything but plain arrays.
    """
    way_out = "give an .npz file with an array per input of the model"
    if not path.exists():
        raise DataError(f"there is no file {path}: {way_out}")
    if not path.is_file():
        raise DataError(f"{path} is no regular file: {way_out}")
    try:
        with path.open("rb") as file:
            if not file.read(8).startswith(_MAGIC):  # NumPy would take it for a pickle
                raise DataError(f"{path} is no .npz file, and no other kind is taken here: {way_out} (np.savez)")
        check_archive(path, wanted)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            told = ", ".join(sorted(wanted or ())) or "NAME"
            raise DataError(
                f"{path} is one array without a name (.npy): save arrays by input name, np.savez(path, {told}=…)"
            )
        with loaded as archive:
            chosen = [name for name in archive.files if wanted is None or name in wanted]
            arrays = {name: archive[name] for name in chosen}
            odd = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
            if odd is not None:
                raise DataError(f"{odd!r} in {path} is no array: save the file with np.savez")
            return arrays, [name for name in archive.files if name not in arrays]
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise whatever a damaged file makes them meet
        raise DataError(f"{path} is no .npz file of plain arrays: {one_line(error)}") from error


def samples_for(model: ir.Model, path: Path) -> Samples:
    """Samples for the inputs of a model, see :func:`read_samples`."""
    ports = onnx.GraphProto(input=[ir.serde.serialize_value(value) for value in model.graph.inputs])
    return read_samples(path, input_specs(ports))


def _checked(array: Array, spec: InputSpec, path: Path, rows: int | None) -> Array:
    place = f"array {spec.name!r} of {path}"
    shape = spec.shape
    agrees = len(shape) == array.ndim and all(
        axis == 0 or isinstance(wanted, str) or wanted == size
        for axis, (wanted, size) in enumerate(zip(shape, array.shape, strict=True))
    )
    if not agrees:
        raise DataError(f"{place} is {list(array.shape)}, and the model takes {list(shape)}")
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise DataError(f"{place} is {array.dtype}, and the model takes {spec.dtype}: save it so")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{place} holds NaN or infinite values")
    if rows is not None and array.size and not -rows <= int(array.min()) <= int(array.max()) < rows:
        raise DataError(f"{place} goes from {array.min()} to {array.max()}, and the model's table has {rows} rows")
    return array.astype(spec.dtype, copy=False)

"""Reading what the student learns from: a folder of images, a text, or arrays, whichever the path names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bot_onnx.errors import RecoverError
from bot_onnx.graph.inputs import InputSpec
from bot_onnx.recover.dataset import Dataset
from bot_onnx.recover.images import DEVIATION, MEAN, read_images
from bot_onnx.recover.text import TOKENIZER, read_text
from bot_onnx.recover.types import Array

_MASK = "attention_mask"


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How data are read.

    Attributes:
        tokenizer: a ``tokenizer.json``; None: that beside one of the models.
        length: most tokens a line of text.
        image_size: side of images where the model leaves it open.
        mean, deviation: of pixels between 0 and 1, per channel or one for all.
    """

    tokenizer: Path | None = None
    length: int = 64
    image_size: int | None = None
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION


def read_data(
    path: Path, specs: Sequence[InputSpec], options: DataOptions, beside: Sequence[Path], rows: Mapping[str, int]
) -> Dataset:
    """Read inputs for a model.

    Args:
        path: a folder of images, an ``.npz`` file with an array per input, or a text file.
        specs: inputs of the model.
        options: of the reading.
        beside: the models, beside which a tokenizer may lie.
        rows: number of rows of the table that an input addresses, by input.

    Raises:
        RecoverError: there is nothing there, or it does not suit the model.
    """
    if not path.exists():
        raise RecoverError(f"there is no data at {path}: give a folder of images, a text file or an .npz file")
    if path.is_dir():
        grey = any(1 in spec.shape[1:] for spec in specs) and options.mean == MEAN and options.deviation == DEVIATION
        mean, deviation = ((0.5,), (0.5,)) if grey else (options.mean, options.deviation)
        return read_images(path, specs, options.image_size, mean, deviation)
    if zipfile.is_zipfile(path):
        return _read_arrays(path, specs, rows)
    tokenizer = options.tokenizer
    if tokenizer is None:
        places = [model.resolve().parent / TOKENIZER for model in beside]
        tokenizer = next((place for place in places if place.is_file()), None)
    if tokenizer is None:
        raise RecoverError(f"a text needs the model's tokenizer: name its {TOKENIZER} with --tokenizer")
    return read_text(path, specs, tokenizer, options.length, rows.get("input_ids"))


def _read_arrays(path: Path, specs: Sequence[InputSpec], rows: Mapping[str, int]) -> Dataset:
    """Arrays named as the inputs, samples along axis 0; an input without axes is the same for all samples."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in {spec.name for spec in specs}}
            others = [name for name in archive.files if name not in arrays]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise RecoverError(f"{path} is no .npz file of plain arrays: {error}") from error
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise RecoverError(
            f"{path} has no array {missing[0]!r}: give one for every input ({', '.join(spec.name for spec in specs)}), "
            "with the samples along its first axis"
        )
    checked = {spec.name: _checked(arrays[spec.name], spec, path, rows.get(spec.name)) for spec in specs}
    batched = {spec.name: checked[spec.name] for spec in specs if spec.shape}
    counts = {len(array): name for name, array in batched.items()}
    if len(counts) != 1:
        told = ", ".join(f"{name} {count}" for count, name in counts.items()) or "none has any"
        raise RecoverError(f"the arrays of {path} must hold equally many samples: {told}")
    constant = {spec.name: checked[spec.name] for spec in specs if not spec.shape}
    notes = (f"arrays of {path.name} that are no inputs: {', '.join(others)}",) if others else ()
    mask = _MASK if _MASK in batched and batched[_MASK].ndim == 2 else None
    return Dataset(batched, constant, mask=mask, notes=notes)


def _checked(array: Array, spec: InputSpec, path: Path, rows: int | None) -> Array:
    place = f"array {spec.name!r} of {path}"
    shape = spec.shape
    agrees = len(shape) == array.ndim and all(
        axis == 0 or isinstance(wanted, str) or wanted == size
        for axis, (wanted, size) in enumerate(zip(shape, array.shape, strict=True))
    )
    if not agrees:
        raise RecoverError(f"{place} is {list(array.shape)}, and the model takes {list(shape)}")
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise RecoverError(f"{place} is {array.dtype}, and the model takes {spec.dtype}: save it so")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RecoverError(f"{place} holds NaN or infinite values")
    if rows is not None and array.size and not -rows <= int(array.min()) <= int(array.max()) < rows:
        raise RecoverError(f"{place} goes from {array.min()} to {array.max()}, and the model's table has {rows} rows")
    return array.astype(spec.dtype, copy=False)

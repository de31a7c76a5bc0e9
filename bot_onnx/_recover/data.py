"""Reading what the student learns from: a folder of images, a text, or arrays, whichever the path names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.images import DEVIATION, MEAN, read_images
from bot_onnx._recover.text import TOKENIZER, read_text
from bot_onnx._runs.sample_arrays import read_samples
from bot_onnx.errors import RecoverError

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
        RecoverError, DataError: there is nothing there, or it does not suit the model.
    """
    if not path.exists():
        raise RecoverError(f"there is no data at {path}: give a folder of images, a text file or an .npz file")
    if path.is_dir():
        grey = any(1 in spec.shape[1:] for spec in specs) and options.mean == MEAN and options.deviation == DEVIATION
        mean, deviation = ((0.5,), (0.5,)) if grey else (options.mean, options.deviation)
        return read_images(path, specs, options.image_size, mean, deviation)
    for given in (path, options.tokenizer):
        if given is not None and given.exists() and not given.is_file():
            raise RecoverError(f"{given} is no regular file: pipes and devices are not read")
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
    samples = read_samples(path, specs, rows)
    mask = _MASK if _MASK in samples.arrays and samples.arrays[_MASK].ndim == 2 else None
    return Dataset(samples.arrays, samples.constant, mask=mask, notes=samples.notes)

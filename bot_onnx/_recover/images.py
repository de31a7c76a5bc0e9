"""A folder of images as the input of a vision model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.extras import pillow
from bot_onnx._recover.types import Array, Feeds
from bot_onnx.errors import RecoverError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"})
#: What Pillow may take such files for: by itself it looks at their content, and starts Ghostscript on PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TIFF")
#: Most pixels of a file: some 300 MB once they are laid open. Cameras take half as many.
MOST_PIXELS = 100_000_000
#: Of ImageNet, as most vision models are trained: means and deviations of red, green and blue between 0 and 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHANNELS = (1, 3)


def read_images(
    folder: Path, specs: Sequence[InputSpec], size: int | None, mean: Sequence[float], deviation: Sequence[float]
) -> Dataset:
    """Read all images of a folder and the folders in it, in order of their names.

    The shorter side is brought to the model's size and the middle is cut out; pixels are brought to 0 … 1, less
    ``mean``, over ``deviation``. A model that takes bytes gets them as they are.

    Args:
        folder: with the images.
        specs: inputs of the model; one of four axes, ``[batch, channels, height, width]`` or channels last.
        size: side of the images where the model leaves it open.
        mean, deviation: per channel, or one for all.

    Raises:
        RecoverError: the model takes something else, an image cannot be read, or there are too few.
    """
    if len(specs) != 1 or len(specs[0].shape) != 4:
        told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
        raise RecoverError(f"images go into one input of four axes, and the model takes {told}; give an .npz file")
    spec = specs[0]
    channel = next((axis for axis in (1, 3) if spec.shape[axis] in _CHANNELS), None)
    if channel is None:
        raise RecoverError(f"input {spec.name!r} {list(spec.shape)} has no axis of 1 or 3 channels; give an .npz file")
    sides = [spec.shape[axis] for axis in (1, 2, 3) if axis != channel]
    height, width = (side if isinstance(side, int) else size for side in sides)
    if height is None or width is None:
        raise RecoverError(f"input {spec.name!r} takes images of any size: say which with --image-size")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    grey = spec.shape[channel] == 1
    count = 1 if grey else 3
    if any(len(values) not in (1, count) for values in (mean, deviation)) or min(deviation) <= 0:
        raise RecoverError(f"--mean and --std take one number or {count}, and deviations above 0")
    arrays = [_read(path, grey, (height, width)) for path in files]
    pixels = np.stack(arrays) if arrays else np.zeros((0, height, width, count), np.uint8)

    shift, scale = np.array(mean, np.float32), np.array(deviation, np.float32)

    def finish(feeds: Feeds) -> Feeds:
        values: Array = feeds[spec.name]
        if spec.dtype.kind == "f":
            values = (values / np.float32(255) - shift) / scale
        if channel == 1:
            values = values.transpose(0, 3, 1, 2)
        return {spec.name: np.ascontiguousarray(values, dtype=spec.dtype)}

    note = f"{len(files):,} images of {height} x {width} in {folder.name}"
    if spec.dtype.kind == "f":
        note += f", less {', '.join(map(str, mean))}, over {', '.join(map(str, deviation))}"
    return Dataset({spec.name: pixels}, finish=finish, notes=(note,))


def _read(path: Path, grey: bool, size: tuple[int, int]) -> Array:
    """One image as bytes ``[height, width, channels]``."""
    library = pillow()
    try:
        with warnings.catch_warnings():  # Pillow has its own opinion of large images, metadata and colour tables
            warnings.simplefilter("ignore")
            with library.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise RecoverError(_too_large(path, f"{opened.width} x {opened.height} pixels"))
                pixels = _fitted(path, opened.convert("L" if grey else "RGB"), size, library.Resampling.BICUBIC)
    except RecoverError:
        raise
    except library.DecompressionBombError as error:
        raise RecoverError(_too_large(path, "more pixels than Pillow opens")) from error
    except Exception as error:  # Pillow raises whatever a damaged file makes its readers meet
        told = "it is damaged, or none of " + ", ".join(FORMATS)
        if not isinstance(error, library.UnidentifiedImageError):
            told = " ".join(str(error).split())[:200] or type(error).__name__
        raise RecoverError(f"{path} cannot be read as an image: {told}; remove it or save it again") from error
    return pixels[..., None] if grey else pixels


def _fitted(path: Path, image: Any, size: tuple[int, int], how: Any) -> Array:
    """The middle of an image, its shorter side brought to ``size`` (height, width)."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    shape = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    if shape[0] * shape[1] > MOST_PIXELS:
        raise RecoverError(_too_large(path, f"{shape[0]} x {shape[1]} pixels, once its shorter side fits the model"))
    if shape != image.size:
        image = image.resize(shape, how)
    left, top = (shape[0] - width) // 2, (shape[1] - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)), np.uint8)


def _too_large(path: Path, what: str) -> str:
    return f"{path} has {what}, and {MOST_PIXELS:,} are the most: remove it or save it smaller"

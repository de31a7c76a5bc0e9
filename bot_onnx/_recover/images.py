"""Images as the input of a vision model."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.extras import pillow
from bot_onnx._recover.preparing import DEVIATION, MEAN, Preparing, Resize
from bot_onnx._recover.rows import Spool
from bot_onnx._recover.types import Array, Feeds
from bot_onnx.errors import RecoverError

__all__ = ["DEVIATION", "MEAN", "Preparing", "find_images", "read_images"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"})
#: What Pillow may take such files for: by itself it looks at their content, and starts Ghostscript on PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TIFF")
#: Formats whose grey images have 16 bits at most where Pillow gives them 32.
_SIXTEEN_BITS = ("PNG", "PPM")
#: Most pixels of a file: some 300 MB once they are laid open. Cameras take half as many.
MOST_PIXELS = 100_000_000


def find_images(folders: Iterable[Path]) -> list[Path]:
    """All images of folders and the folders in them, in order of their names."""
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]


def read_images(given: Iterable[tuple[Any, str]], specs: Sequence[InputSpec], way: Preparing, label: str) -> Dataset:
    """Read images; their pixels lie in a file without a name.

    Without a config the shorter side is brought to the model's size and the middle is cut out; pixels are brought to
    0 … 1, less the mean, over the deviation. A model that takes bytes gets them as they are.

    Args:
        given: files, their bytes, or Pillow's images, each with its place.
        specs: inputs of the model, which takes one.
        way: what is done to them.
        label: how notes call the data.

    Raises:
        RecoverError: one cannot be read.
    """
    spec, (height, width) = specs[0], way.size
    spool, count = Spool(np.dtype(np.uint8)), 0
    for image, place in given:
        spool.append(_read(image, place, way))
        count += 1
    pixels = spool.array(count, height, width, 1 if way.grey else 3)

    def finish(feeds: Feeds) -> Feeds:
        values: Array = feeds[spec.name]
        values = values[..., ::-1] if way.flip else values
        if spec.dtype.kind == "f":
            if way.scale == 1 / 255:
                values = values / np.float32(255)
            elif way.scale is not None:
                values = values * np.float32(way.scale)
            if way.mean is not None and way.deviation is not None:
                values = (values - np.array(way.mean, np.float32)) / np.array(way.deviation, np.float32)
        if way.channel == 1:
            values = values.transpose(0, 3, 1, 2)
        return {spec.name: np.ascontiguousarray(values, dtype=spec.dtype)}

    note = f"{count:,} images of {height} x {width}" + (f" in {label}" if label else "")
    if spec.dtype.kind == "f" and way.mean is not None and way.deviation is not None:
        note += f", less {', '.join(map(str, way.mean))}, over {', '.join(map(str, way.deviation))}"
    note += f", as {way.place} says" if way.place is not None else ""
    return Dataset({spec.name: pixels}, finish=finish, notes=(note,), told=way.told())


def _read(image: Any, place: str, way: Preparing) -> Array:
    """One image as bytes ``[height, width, channels]``."""
    library = pillow()
    if isinstance(image, Mapping):
        image = image["bytes"]
    try:
        with warnings.catch_warnings():  # Pillow has its own opinion of large images, metadata and colour tables
            warnings.simplefilter("ignore")
            if isinstance(image, library.Image):
                pixels = _fitted(place, _in_bytes(place, image, way), way)
            else:
                source = io.BytesIO(image) if isinstance(image, bytes) else image
                with library.open(source, formats=FORMATS) as opened:
                    if opened.width * opened.height > MOST_PIXELS:
                        raise RecoverError(_too_large(place, f"{opened.width} x {opened.height} pixels"))
                    pixels = _fitted(place, _in_bytes(place, opened, way), way)
    except RecoverError:
        raise
    except library.DecompressionBombError as error:
        raise RecoverError(_too_large(place, "more pixels than Pillow opens")) from error
    except Exception as error:  # Pillow raises whatever a damaged file makes its readers meet
        told = "it is damaged, or none of " + ", ".join(FORMATS)
        if not isinstance(error, library.UnidentifiedImageError):
            told = " ".join(str(error).split())[:200] or type(error).__name__
        raise RecoverError(f"{place} cannot be read as an image: {told}; remove it or save it again") from error
    return pixels[..., None] if way.grey else pixels


def _in_bytes(place: str, image: Any, way: Preparing) -> Any:
    """An image of 8 bits a channel, grey or in colours; 16 bits are brought to 8, where Pillow would cut them off."""
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        raise RecoverError(
            f"{place} has 32 bits a pixel, and nothing says which number is white: save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        image = pillow().fromarray(np.round(np.asarray(image, np.float32) / (65535 / 255)).astype(np.uint8))
    return image.convert("L" if way.grey else "RGB")


def _fitted(place: str, image: Any, way: Preparing) -> Array:
    """An image at the model's size."""
    shape = _resized(way.resize, image.height, image.width)
    if shape[0] * shape[1] > MOST_PIXELS:
        raise RecoverError(_too_large(place, f"{shape[1]} x {shape[0]} pixels, once its shorter side fits the model"))
    if shape != (image.height, image.width):
        image = image.resize((shape[1], shape[0]), way.resample)
    height, width = way.crop or way.size
    if (image.height, image.width) != (height, width):
        if way.crop is None or image.height < height or image.width < width:
            raise RecoverError(
                f"{place} is {image.height} x {image.width} where {height} x {width} are cut out: remove it or save it "
                "larger"
            )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image, np.uint8)


def _resized(resize: Resize, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image afterwards."""
    if resize.kind == "none":
        return height, width
    if resize.kind == "exact":
        return resize.size
    if resize.kind == "cover":
        scale = max(resize.size[0] / height, resize.size[1] / width)
        return max(resize.size[0], round(height * scale)), max(resize.size[1], round(width * scale))
    short, most = resize.size
    if most and max(height, width) / min(height, width) * short > most:
        short = round(most * min(height, width) / max(height, width))
    long = int(short * max(height, width) / min(height, width))
    return (short, long) if height <= width else (long, short)


def _too_large(place: str, what: str) -> str:
    return f"{place} has {what}, and {MOST_PIXELS:,} are the most: remove it or save it smaller"

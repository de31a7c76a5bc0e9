"""Tables of sines and cosines of the places of an image (Carion et al. 2020, arXiv 2005.12872), never trained.

Half of the C channels are of one coordinate and half of the other. Channels 2i and 2i + 1 of a half (or, where sines
stand before cosines, i and C/4 + i) hold sin(p f) and cos(p f) of f = base^(-i / (C/4)), where p = first + step·index
along an axis of the image: 1, 2, … or, where coordinates are brought to an angle, parts of a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.peeking import Rows

Floats = NDArray[np.float64]
_LARGEST = 1 << 22  #: elements of the largest table that is looked into
_LEAST = 4  #: channels of a half
_TOLERANCE = 1e-4
_TOLERANCE_HALF = 1e-2


@dataclass(frozen=True, slots=True)
class SinusoidGrid:
    """How a table is computed.

    Attributes:
        last: the channels are the last axis of three, not the first of them. crossed: the first half is of the columns.
        in_turn: sines and cosines alternate. base: of the frequencies.
        rows, columns: first coordinate and step along either axis of the image.
    """

    last: bool
    crossed: bool
    in_turn: bool
    base: float
    rows: tuple[float, float]
    columns: tuple[float, float]

    @property
    def form(self) -> str:
        """Name of the closed form."""
        flags = f"{int(self.last)},{int(self.crossed)},{int(self.in_turn)}"
        return f"sinusoid_grid:{flags}," + ",".join(f"{n:.12g}" for n in (self.base, *self.rows, *self.columns))

    @classmethod
    def parse(cls, argument: str) -> SinusoidGrid:
        """What :attr:`form` says behind its colon."""
        flags, numbers = argument.split(",")[:3], [float(number) for number in argument.split(",")[3:]]
        last, crossed, in_turn = (flag == "1" for flag in flags)
        return cls(last, crossed, in_turn, numbers[0], (numbers[1], numbers[2]), (numbers[3], numbers[4]))

    def table(self, shape: tuple[int, ...]) -> Floats:
        """The table at ``[…, C, height, width]``, or ``[…, height, width, C]``."""
        channels, height, width = shape[-1:] + shape[-3:-1] if self.last else shape[-3:]
        half = (channels + 1) // 2
        of_rows = self._waves(self.rows, height, half)[:, None].repeat(width, axis=1)
        of_columns = self._waves(self.columns, width, half)[None].repeat(height, axis=0)
        halves = (of_columns, of_rows) if self.crossed else (of_rows, of_columns)
        values = np.concatenate(halves, axis=-1)[..., :channels]
        return np.broadcast_to(values if self.last else np.moveaxis(values, -1, 0), shape)

    def _waves(self, places: tuple[float, float], length: int, width: int) -> Floats:
        """A half along its axis: ``[length, width]``."""
        count = (width + 1) // 2
        frequencies = self.base ** (-np.arange(count) / (width / 2))
        angles = np.outer(places[0] + places[1] * np.arange(length), frequencies)
        waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1 if self.in_turn else 1)
        return waves.reshape(length, 2 * count)[:, :width]


def recognise_sinusoid_grid(array: Rows) -> str | None:
    """Name of the closed form of a table ``[1, C, height, width]`` or ``[1, height, width, C]``, or None."""
    if array.ndim < 3 or array.dtype.kind != "f" or array.size > _LARGEST:
        return None
    shape = array.shape[-3:]
    if array.size != np.prod(shape) or min(shape) < 2:
        return None
    tolerance = _TOLERANCE if array.dtype.itemsize > 2 else _TOLERANCE_HALF
    if not _are_pairs(array.reshape(shape)[0], tolerance):
        return None
    values = np.asarray(array, dtype=np.float64).reshape(shape)
    for last in (False, True):
        for found in _candidates(values if last else np.moveaxis(values, 0, -1), last):
            if np.allclose(found.table(shape), values, rtol=0, atol=tolerance):
                return found.form
    return None


def _are_pairs(few: NDArray[np.floating], tolerance: float) -> bool:
    """Whether a channel, or a row of the image, may hold sines and cosines; most trained ones do not."""
    return bool(np.isfinite(few).all() and np.abs(few).max() <= 1 + tolerance)


def _candidates(values: Floats, last: bool) -> Iterator[SinusoidGrid]:
    """Grids that have the coordinates and the last frequency of a table ``[height, width, C]``."""
    half = values.shape[-1] // 2
    if values.shape[-1] % 4 or half < _LEAST:
        return
    for crossed, in_turn in product((False, True), (False, True)):
        of_rows = values[:, 0, half:] if crossed else values[:, 0, :half]
        of_columns = values[0, :, :half] if crossed else values[0, :, half:]
        rows, columns = _places(of_rows, in_turn), _places(of_columns, in_turn)
        base = _base(of_rows, rows, in_turn)
        if base is not None:
            for digits in (1, 3, 12):  # a round number, as a rule
                yield SinusoidGrid(last, crossed, in_turn, float(f"{base:.{digits}g}"), rows, columns)


def _angles(waves: Floats, index: int, in_turn: bool) -> Floats:
    """The angles of one frequency along an axis, without jumps."""
    half = waves.shape[1] // 2
    sine, cosine = (2 * index, 2 * index + 1) if in_turn else (index, half + index)
    return np.unwrap(np.arctan2(waves[:, sine], waves[:, cosine]))


def _places(waves: Floats, in_turn: bool) -> tuple[float, float]:
    """First coordinate and step: the angles of the first frequency, which is 1."""
    angles = _angles(waves, 0, in_turn)
    step = float(angles[-1] - angles[0]) / (len(angles) - 1)
    return float(angles[0]), step


def _base(waves: Floats, places: tuple[float, float], in_turn: bool) -> float | None:
    """Base of the frequencies, from the last of them at the last place."""
    count = waves.shape[1] // 2
    place = places[0] + places[1] * (len(waves) - 1)
    frequency = float(_angles(waves, count - 1, in_turn)[-1]) / place if place else 0.0
    return frequency ** (-count / (count - 1)) if 0 < frequency < 1 else None

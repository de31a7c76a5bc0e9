"""Position tables of sines and cosines (Vaswani et al. 2017, arXiv 1706.03762): one row a position, never trained.

Entry i of n = width / 2 frequencies is f(i) = base^(-i/n), or base^(-i/(n - 1)) in the form of tensor2tensor; row r
holds sin((r + first) f) and cos((r + first) f), the sines before the cosines or in turn. A row of padding is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.peeking import Rows
from bot_onnx._patterns.frequencies import USUAL_BASE

Floats = NDArray[np.float64]
_PROBED = 8  #: rows that tell most tables apart from this one
_LARGEST_FIRST = 4


@dataclass(frozen=True, slots=True)
class Sinusoids:
    """How a table is computed.

    Attributes:
        base: of the frequencies. gap: 1 where n - 1 divides the exponent. in_turn: sines and cosines alternate.
        first: position of row 0. padding: a row of zeros, -1 for none. step: 1, or -1 where positions count down
            (distances to the left first). turned: the cosines come before the sines.
    """

    base: float
    gap: int
    in_turn: bool
    first: int
    padding: int
    step: int = 1
    turned: bool = False

    @property
    def form(self) -> str:
        """Name of the closed form."""
        rare = f",{self.step},{int(self.turned)}" if self.step < 0 or self.turned else ""
        return f"sinusoids:{self.base:.12g},{self.gap},{int(self.in_turn)},{self.first},{self.padding}{rare}"

    @classmethod
    def parse(cls, argument: str) -> Sinusoids:
        """What :attr:`form` says behind its colon."""
        base, gap, in_turn, first, padding, *rare = argument.split(",")
        step, turned = rare or ("1", "0")
        return cls(float(base), int(gap), in_turn == "1", int(first), int(padding), int(step), turned == "1")

    def table(self, shape: tuple[int, ...]) -> Floats:
        """The table at ``[…, rows, width]``."""
        rows, width = shape[-2:]
        count = (width + 1) // 2
        frequencies = self.base ** (-np.arange(count) / max(count - self.gap, 1))
        angles = np.outer(self.step * np.arange(rows) + self.first, frequencies)
        values = np.zeros((rows, 2 * count))
        sines, cosines = (slice(0, None, 2), slice(1, None, 2)) if self.in_turn else (slice(count), slice(count, None))
        if self.turned:
            sines, cosines = cosines, sines
        values[:, sines], values[:, cosines] = np.sin(angles), np.cos(angles)
        if 0 <= self.padding < rows:
            values[self.padding] = 0
        return np.broadcast_to(values[:, :width], shape)


def recognise_sinusoids(array: Rows) -> str | None:
    """Name of the closed form of a table ``[…, rows, width]`` of sines and cosines, or None."""
    if array.ndim < 2 or array.dtype.kind != "f" or array.size != array.shape[-1] * array.shape[-2]:
        return None
    rows, width = array.shape[-2:]
    values = array.reshape(rows, width)
    if rows < 4 or width < 4 or width % 2:
        return None
    tolerance = 1e-4 if array.dtype.itemsize > 2 else 1e-2
    head = values[:_PROBED].astype(np.float64)
    if np.abs(head).max() > 1 + tolerance:
        return None
    zero = [row for row in range(len(head)) if not head[row].any()]
    padding = zero[0] if len(zero) == 1 else -1
    for turned, found in (
        *((False, candidate) for candidate in _candidates(head, padding, tolerance, rows)),
        *((True, candidate) for candidate in _candidates(_swapped(head), padding, tolerance, rows)),
    ):
        form = replace(found, turned=turned)
        # Angles grow with the row, and so does what the rounding of a frequency does to them.
        if np.allclose(form.table(values.shape), values.astype(np.float64), rtol=0, atol=tolerance * max(1, rows / 64)):
            return form.form
    return None


def _swapped(head: Floats) -> Floats:
    """Rows with their halves exchanged."""
    half = head.shape[1] // 2
    return np.concatenate([head[:, half:], head[:, :half]], axis=1)


def _candidates(head: Floats, padding: int, tolerance: float, length: int) -> Iterator[Sinusoids]:
    """Tables whose first frequency, 1, and whose last are those of the first rows; ``length`` rows in all."""
    count = head.shape[1] // 2
    rows = np.array([row for row in range(len(head)) if row != padding])
    counting_up = [(first, 1) for first in range(_LARGEST_FIRST + 1)]
    counting_down = [(first, -1) for first in (length // 2, length - 1)]
    for first, step in (*counting_up, *counting_down):
        if not np.allclose(head[rows, 0], np.sin(step * rows + first), rtol=0, atol=tolerance):
            continue
        row = next(int(row) for row in rows if step * row + first > 0)
        ways = []
        for gap, in_turn in product((0, 1), (False, True)):
            sine, cosine = (-2, -1) if in_turn else (count - 1, -1)
            last = float(np.arctan2(head[row, sine], head[row, cosine]) / (step * row + first))
            steps = (count - 1) / max(count - gap, 1)
            if last > 0 and steps > 0:
                ways.append((last ** (-1 / steps), gap, in_turn))
        yield from (Sinusoids(USUAL_BASE, gap, in_turn, first, padding, step) for _, gap, in_turn in ways)
        for digits in (1, 3, 12):  # with one of the gaps the base is a round number, the other fits as well
            for base, gap, in_turn in ways:
                yield Sinusoids(float(f"{base:.{digits}g}"), gap, in_turn, first, padding, step)

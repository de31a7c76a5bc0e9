"""Vectors of frequencies that run into sines and cosines: a geometric progression, and which formula goes on with it.

Any progression of n numbers can be written as base^(-i/n), as base^(-i/(n - 1)) and as ratio^i, and these differ at
every other n. The number that somebody chose is a round one, of :data:`_DIGITS` digits at most, so the first of these
that is round says which formula it is:

1. the base :data:`USUAL_BASE`, over n (rotary embeddings) or over n - 1 (tensor2tensor, fairseq, time steps of
   diffusion models);
2. a ratio of 2 or 1/2: octaves (NeRF);
3. where the frequencies fall, a base over n (5e5, 1e6), then one over n - 1;
4. the ratio, where they rise or fall (1.5, 3).

What falls otherwise is taken to have its own base over n, as rotary embeddings do that were stretched to longer texts:
:func:`is_assumed` is true of it. What rises otherwise has no formula known here. Progressions start at 1; octaves also
at π and 2 π.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

INVERSE = "inv_freq"  #: ``inv_freq:<base>``, with ``,1`` behind it where n - 1 divides the exponent
OCTAVES = "octaves"  #: ``octaves:<ratio>,<first>``
FREQUENCIES = frozenset({INVERSE, OCTAVES})

USUAL_BASE = 1e4
_DIGITS = 2  #: rotary bases are 1e4, 5e5, 1e6, 16e4, 25e4; of others 1 in 700 is as near to such a number by chance
_NEAR = 2e-5  #: what the powers of float32 are off, at most
_FIRSTS = (1.0, pi, 2 * pi)  #: where octaves start


def recognise_frequencies(flat: NDArray[Any]) -> str | None:
    """Name of the closed form of frequencies ``[n]``, or None; the rule stands at the top."""
    values = flat.astype(np.float64)
    if values.size < 2 or not np.all(values > 0) or not np.isfinite(values).all():
        return None
    first = next((first for first in _FIRSTS if isclose(values[0], first, rel_tol=1e-6)), None)
    if first is None:
        return None
    ratio = float(values[-1] / values[0]) ** (1 / (values.size - 1))
    for form in _forms(ratio, first, values.size):
        if np.allclose(compute_frequencies(form, values.size), values, rtol=_NEAR, atol=0):
            return form
    return None


def _forms(ratio: float, first: float, count: int) -> Iterator[str]:
    """Forms in the order in which they are believed."""
    ways = [(ratio**-count, ""), (ratio ** (1 - count), ",1")] if first == 1 else []
    yield from (f"{INVERSE}:{USUAL_BASE:.12g}{gap}" for _, gap in ways)
    yield from (f"{OCTAVES}:{octave},{first:.12g}" for octave in (2, 0.5))
    falling = ways if ratio < 1 else []
    yield from (f"{INVERSE}:{_rounded(base):.12g}{gap}" for base, gap in falling)
    yield f"{OCTAVES}:{_rounded(ratio):.12g},{first:.12g}"
    yield from (f"{INVERSE}:{base:.7g}{gap}" for base, gap in falling[:1])


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def is_assumed(form: str) -> bool:
    """Whether nothing but custom says that a form goes on with its base: no round number tells."""
    name, _, argument = form.partition(":")
    return name == INVERSE and float(argument.partition(",")[0]) != _rounded(float(argument.partition(",")[0]))


def compute_frequencies(form: str, count: int) -> Floats:
    """The frequencies of a form, ``[count]``."""
    name, _, argument = form.partition(":")
    index = np.arange(count)
    number, _, other = argument.partition(",")
    if name == OCTAVES:
        return np.asarray(float(other) * float(number) ** index, np.float64)
    return np.asarray(float(number) ** (-index / max(count - int(other or 0), 1)), np.float64)

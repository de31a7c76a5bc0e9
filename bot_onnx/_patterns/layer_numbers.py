"""Numbers that every layer has of its own: slopes, gates and scales of one element that were trained.

They belong to a layer's weights and move with them. A number that follows a layer's place by a formula (1 / (k + 1))
belongs to the place and stays. The graph does not say which: a few formulas explain all numbers of the second kind that
are in use, and trained ones follow none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.constants import is_literal
from bot_onnx._ops.nodes import number_in
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import is_setting

#: Relative error of a number that was worked out and stored: in float32, and in what halves of it were rounded to.
_FLOAT, _HALF, _BRAIN = 2.0**-22, 2.0**-11, 2.0**-8
_SPREAD = 100  #: errors that numbers must be apart to show a formula


def trained_numbers(chain: LayerChain) -> Iterator[tuple[ir.Value, ...]]:
    """The numbers that stand at one place of every layer, for the places where each layer has one of its own."""
    return (values for values, placed in _differing(chain) if not placed)


def placed_numbers(chain: LayerChain) -> Iterator[tuple[ir.Value, ...]]:
    """The numbers that differ from layer to layer and follow the layer's place."""
    return (values for values, placed in _differing(chain) if placed)


def _differing(chain: LayerChain) -> Iterator[tuple[tuple[ir.Value, ...], bool]]:
    """Numbers that are not the same in all layers, and whether they follow the place."""
    for values in zip(*(layer.parameters for layer in chain.layers), strict=True):
        held = [None if is_setting(value) else number_in(value) for value in values]
        if len({id(value) for value in values}) < len(values) or None in held:
            continue
        numbers = np.array(held, np.float64)
        if np.isfinite(numbers).all() and np.ptp(numbers) > 0:
            yield values, follows_place(numbers, literal=all(map(is_literal, values)))


def follows_place(numbers: NDArray[np.float64], *, literal: bool = False) -> bool:
    """Whether the numbers of layers come again in turns, or a formula in the layer's place k gives them.

    Formulas: a power of the number is so many times k + 1 (scores over the layer's number, norms over its root), or the
    steps of the number go on by one factor towards a limit (0.8 - 0.6 exp(-0.3 k)). Of numbers that no training can
    reach also: a power of the number, or its logarithm, goes on evenly over k. Each needs a layer more than it has
    constants, and another one where the numbers were rounded to 16 bits.

    Args:
        numbers: ``[layers]``, finite, not all the same.
        literal: the file has them where exporters write what is no weight.
    """
    count = len(numbers)
    if any(np.array_equal(numbers[turn:], numbers[:-turn]) for turn in range(1, count // 2 + 1)):
        return True
    ways = {(_FLOAT, count), (_error(numbers), count - 1)}
    return any(_has_formula(numbers, error, shown, literal=literal) for error, shown in ways)


def _has_formula(numbers: NDArray[np.float64], error: float, shown: int, *, literal: bool) -> bool:
    """Whether numbers with a relative error follow a formula that as many of them show."""
    one_sign = bool((numbers > 0).all() or (numbers < 0).all())
    powers = [np.abs(numbers) ** power for power in (1, -1, 2, -2)] if one_sign else []
    if shown >= 2 and any(_is_multiple(form, 2 * error) for form in powers):
        return True
    evenly = [(numbers, error * np.abs(numbers).max())]
    if one_sign:
        evenly += [(form, 2 * error * form.max()) for form in powers] + [(np.log(powers[0]), error)]
    even = any(_goes_on(form, inexact) for form, inexact in evenly)
    if even or shown < 4:
        return even and literal and shown >= 3
    return _has_limit(numbers, error)


def _is_multiple(form: NDArray[np.float64], error: float) -> bool:
    """Whether positive values are so many times k + 1."""
    ratios = form / np.arange(1, len(form) + 1)
    return bool(np.ptp(ratios) <= 2 * error * ratios.max())


def _has_limit(numbers: NDArray[np.float64], error: float) -> bool:
    """Whether the steps of values are of one sign and go on by one factor."""
    steps = np.diff(numbers)
    if not (steps * steps[0] > 0).all():
        return False
    inexact = 2 * error * np.abs(numbers).max() / np.abs(steps).min()
    return inexact < 1 / _SPREAD and _goes_on(np.log(np.abs(steps)), inexact)


def _goes_on(values: NDArray[np.float64], error: float) -> bool:
    """Whether values go on by one step, and not by one that their errors alone could make."""
    even = np.linspace(values[0], values[-1], len(values))
    return bool(np.ptp(values) > _SPREAD * error and np.abs(values - even).max() <= 2 * error)


def _error(numbers: NDArray[np.float64]) -> float:
    """The relative error of numbers, by the type that holds all of them: files are widened after they were rounded."""
    single = numbers.astype(np.float32)
    if not (single.view(np.uint32) & 0xFFFF).any():
        return _BRAIN
    with np.errstate(over="ignore"):
        return _HALF if np.array_equal(single.astype(np.float16), single) else _FLOAT

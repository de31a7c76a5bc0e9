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

from bot_onnx._ops.nodes import FLOATS
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import is_setting

#: Relative error of a number that was worked out and stored: in float32, and in what halves of it were rounded to.
_FLOAT, _HALF, _BRAIN = 2.0**-22, 2.0**-11, 2.0**-8
_SPREAD = 100  #: errors that numbers must be apart to show a formula
_RATIOS = (2.0, 0.5, 2**0.5, 0.5**0.5)  #: of the second layer's number to the first's: powers of k + 1


def trained_numbers(chain: LayerChain) -> Iterator[tuple[ir.Value, ...]]:
    """The numbers that stand at one place of every layer, for the places where each layer has one of its own."""
    for values in zip(*(layer.parameters for layer in chain.layers), strict=True):
        if len({id(value) for value in values}) == len(values) and all(map(_is_number, values)):
            numbers = np.array([_number(value) for value in values])
            if np.isfinite(numbers).all() and np.ptp(numbers) > 0 and not follows_place(numbers):
                yield values


def follows_place(numbers: NDArray[np.float64]) -> bool:
    """Whether the numbers of layers come again in turns, or a formula in the layer's place k gives them.

    Formulas: a power of the number, or its logarithm, goes on evenly over k; or its steps go on by one factor. Each
    needs a layer more than it has constants, and another one where the numbers were rounded to 16 bits. Of two layers,
    numbers that are as powers of k + 1.

    Args:
        numbers: ``[layers]``, finite, not all the same.
    """
    count = len(numbers)
    if any(np.array_equal(numbers[turn:], numbers[:-turn]) for turn in range(1, count // 2 + 1)):
        return True
    if count == 2:
        return bool(numbers[0]) and any(abs(numbers[1] / numbers[0] - ratio) <= 2 * _FLOAT for ratio in _RATIOS)
    return any(_has_formula(numbers, error, count - spare) for error, spare in {(_FLOAT, 0), (_error(numbers), 1)})


def _has_formula(numbers: NDArray[np.float64], error: float, shown: int) -> bool:
    """Whether numbers with a relative error follow a formula that as many of them show."""
    if np.ptp(numbers) <= _SPREAD * error * np.abs(numbers).max():
        return False
    if shown >= 3 and any(_goes_on(form, inexact) for form, inexact in _forms(numbers, error)):
        return True
    steps = np.diff(numbers)
    if shown < 4 or not (steps * steps[0] > 0).all():
        return False
    inexact = 2 * error * np.abs(numbers).max() / np.abs(steps).min()
    return inexact < 1 / _SPREAD and _goes_on(np.log(np.abs(steps)), inexact)


def _forms(numbers: NDArray[np.float64], error: float) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Powers and logarithm of numbers of one sign, each with its absolute error."""
    yield numbers, error * np.abs(numbers).max()
    if (numbers > 0).all() or (numbers < 0).all():
        sizes = np.abs(numbers)
        yield np.log(sizes), error
        for power in (-1, 2, -2):
            yield sizes**power, abs(power) * error * (sizes**power).max()


def _goes_on(values: NDArray[np.float64], error: float) -> bool:
    """Whether values go on by one step."""
    even = np.linspace(values[0], values[-1], len(values))
    return bool(np.ptp(values) > _SPREAD * error and np.abs(values - even).max() <= 2 * error)


def _error(numbers: NDArray[np.float64]) -> float:
    """The relative error of numbers, by the type that holds all of them: files are widened after they were rounded."""
    single = numbers.astype(np.float32)
    if not (single.view(np.uint32) & 0xFFFF).any():
        return _BRAIN
    with np.errstate(over="ignore"):
        return _HALF if np.array_equal(single.astype(np.float16), single) else _FLOAT


def _is_number(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.size == 1 and tensor.dtype in FLOATS and not is_setting(value)


def _number(value: ir.Value) -> float:
    assert value.const_value is not None
    return float(value.const_value.numpy().reshape(-1)[0])

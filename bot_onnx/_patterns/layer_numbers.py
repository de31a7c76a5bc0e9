"""Numbers that every layer has of its own: slopes, gates and scales of one element that were trained.

They belong to a layer's weights and move with them. A number that follows a layer's place by a formula (1 / (k + 1))
belongs to the place and stays. The graph does not say which: a few formulas explain all numbers of the second kind that
are in use, and trained ones follow none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.constants import is_literal
from bot_onnx._ops.nodes import number_in
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import is_setting

#: The number of a layer, by its place from 0 on.
Law = Callable[[int], float]

#: Relative error of a number that was worked out and stored: in float32, and in what halves of it were rounded to.
_FLOAT, _HALF, _BRAIN = 2.0**-22, 2.0**-11, 2.0**-8
_SPREAD = 100  #: errors that numbers must be apart to show a formula


def trained_numbers(chain: LayerChain) -> Iterator[tuple[ir.Value, ...]]:
    """The numbers that stand at one place of every layer, for the places where each layer has one of its own."""
    return (values for values, _, law in _differing(chain) if law is None)


def placed_numbers(chain: LayerChain) -> Iterator[tuple[tuple[ir.Value, ...], NDArray[np.float64], Law]]:
    """The numbers that differ from layer to layer and follow the layer's place, and the law that they follow."""
    return ((values, numbers, law) for values, numbers, law in _differing(chain) if law is not None)


def _differing(chain: LayerChain) -> Iterator[tuple[tuple[ir.Value, ...], NDArray[np.float64], Law | None]]:
    """Numbers that are not the same in all layers, and what they follow."""
    for values in zip(*(layer.parameters for layer in chain.layers), strict=True):
        numbers = _numbers(values)
        if numbers is not None:
            yield values, numbers, law_of(numbers, literal=all(map(is_literal, values)))


def _numbers(values: Sequence[ir.Value | None]) -> NDArray[np.float64] | None:
    """The numbers at one place of every layer; None where there are none, or they are one value or all the same."""
    held = [None if value is None or is_setting(value) else number_in(value) for value in values]
    if len({id(value) for value in values}) < len(values) or None in held:
        return None
    numbers = np.array(held, np.float64)
    return numbers if np.isfinite(numbers).all() and np.ptp(numbers) > 0 else None


def placed_inputs(chain: LayerChain) -> Iterator[tuple[int, int, NDArray[np.float64], Law]]:
    """Inputs of the layers' nodes, as they now are, with numbers of the place: node, slot, numbers and their law."""
    for index, nodes in enumerate(zip(*(layer.nodes for layer in chain.layers), strict=True)):
        for slot, values in enumerate(zip(*(node.inputs for node in nodes), strict=True)):
            numbers = _numbers(values)
            law = None if numbers is None else law_of(numbers, literal=all(v and is_literal(v) for v in values))
            if numbers is not None and law is not None:
                yield index, slot, numbers, law


def continued(numbers: NDArray[np.float64], law: Law, place: int) -> float | None:
    """What a law gives for a place behind the layers; None where it leads out of the numbers' range, through 0.

    A rate that falls evenly may have been meant to end where it ends.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        number = float(law(place))
    lost = not np.isfinite(number) or ((numbers > 0).all() and number <= 0) or ((numbers < 0).all() and number >= 0)
    return None if lost else number


def law_of(numbers: NDArray[np.float64], *, literal: bool = False) -> Law | None:
    """What gives the numbers of layers by the layer's place k: they come again in turns, or follow a formula.

    Formulas: a power of the number is so many times k + 1 (scores over the layer's number, norms over its root), or the
    steps of the number go on by one factor towards a limit (0.8 - 0.6 exp(-0.3 k)). Of numbers that no training can
    reach also: a power of the number, or its logarithm, goes on evenly over k. Each needs a layer more than it has
    constants, and another one where the numbers were rounded to 16 bits.

    Args:
        numbers: ``[layers]``, finite, not all the same.
        literal: the file has them where exporters write what is no weight.
    """
    count = len(numbers)
    for turn in range(1, count // 2 + 1):
        if np.array_equal(numbers[turn:], numbers[:-turn]):
            return lambda place: float(numbers[place % turn])
    ways = dict.fromkeys([(_FLOAT, count), (_error(numbers), count - 1)])
    laws = (_formula(numbers, error, shown, literal=literal) for error, shown in ways)
    return next((law for law in laws if law is not None), None)


def _formula(numbers: NDArray[np.float64], error: float, shown: int, *, literal: bool) -> Law | None:
    """The formula that numbers with a relative error follow, where as many of them show it."""
    one_sign = bool((numbers > 0).all() or (numbers < 0).all())
    sign = np.sign(numbers[0])
    powers = [(power, np.abs(numbers) ** power) for power in (1, -1, 2, -2)] if one_sign else []
    for power, form in powers:
        if shown >= 2 and _is_multiple(form, 2 * error):
            ratio = float(np.median(form / np.arange(1, len(form) + 1)))
            return partial(_rooted, sign, power, partial(_multiple, ratio))
    evenly: list[tuple[NDArray[np.float64], float, Callable[[Law], Law]]]
    evenly = [(numbers, error * np.abs(numbers).max(), lambda line: line)]
    evenly += [(form, 2 * error * form.max(), partial(partial, _rooted, sign, power)) for power, form in powers]
    if one_sign:
        evenly.append((np.log(np.abs(numbers)), error, partial(partial, _raised, sign)))
    even = next((law(_line(form)) for form, inexact, law in evenly if _goes_on(form, inexact)), None)
    if even is not None or shown < 4:
        return even if literal and shown >= 3 else None
    return _towards_limit(numbers) if _has_limit(numbers, error) else None


def _multiple(ratio: float, place: int) -> float:
    return ratio * (place + 1)


def _rooted(sign: float, power: int, law: Law, place: int) -> float:
    """What has a law as its power; nan where that is not positive."""
    return float(sign * np.float64(law(place)) ** (1 / power))


def _raised(sign: float, law: Law, place: int) -> float:
    return float(sign * np.exp(law(place)))


def _line(values: NDArray[np.float64]) -> Law:
    step = (values[-1] - values[0]) / (len(values) - 1)
    return lambda place: float(values[0] + step * place)


def _towards_limit(numbers: NDArray[np.float64]) -> Law:
    """Limit + distance x factor ** k, through numbers that have it."""
    steps = np.diff(numbers)
    factor = (steps[-1] / steps[0]) ** (1 / (len(steps) - 1))
    falling = np.stack([np.ones(len(numbers)), factor ** np.arange(len(numbers))], axis=1)
    limit, distance = np.linalg.lstsq(falling, numbers, rcond=None)[0]
    return lambda place: float(limit + distance * factor**place)


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

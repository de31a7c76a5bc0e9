"""Numbers along channels that nobody trained: one number everywhere, masks of zeros and ones, even progressions.

They are told by what they hold and by what reads them. Training makes no vector of one number everywhere: it stays that
number at any size. A mask or a progression means something index by index, and keeps its axes. What networks begin
their training with is none of these: biases of linear maps, zeros, ones, and the scale of what a layer adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.peeking import peeked
from bot_onnx._ops import IN_ORDER, VIEW, Calc, computes, is_linear, is_sum, passes_on
from bot_onnx._ops.nodes import behind_views
from bot_onnx._ops.walk import behind
from bot_onnx._ops.walk import uses as uses_of
from bot_onnx._patterns.parameters import Parameter, parameter_behind

Array = NDArray[np.float64]

#: What parameters are for that may be such numbers.
_KINDS = frozenset({"scale", "bias", "table", "other"})
#: What they are read by.
_READERS = (Calc.PRODUCT, Calc.QUOTIENT, Calc.SUM, Calc.DIFFERENCE, Calc.EXTREME)
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
_LARGEST = 1 << 20  #: elements of the largest that is looked into
_FEW = 64  #: numbers that show of nearly every trained vector that it is none of these
_FEWEST = 4  #: numbers that make a progression
_EVEN = 9e-4  #: how far from its place a number of a progression may be, in steps, beside its rounding
_SURE = 6  #: digits of the chance that none is meant


def is_one_number(value: ir.Value) -> bool:
    """Whether a tensor holds one number everywhere, which no training begins with: neither 0 nor 1."""
    tensor = value.const_value
    if tensor is None or not 1 < tensor.size <= _LARGEST or tensor.dtype not in _FLOATS:
        return False
    flat = peeked(tensor).reshape(-1)
    first = flat[:_FEW]
    if first[0] in (0, 1) or not np.isfinite(first[0]) or not np.all(first == first[0]):
        return False
    return bool(np.all(np.asarray(flat) == first[0]))


def is_uniform_vector(parameter: Parameter) -> bool:
    """Whether activations are computed with one number, which an initializer holds for each of their channels."""
    return _is_operand(parameter) and is_one_number(parameter.value) and not _scales_branch(parameter)


def is_fixed_vector(parameter: Parameter) -> bool:
    """Whether activations are computed with a vector that :func:`is_fixed`."""
    tensor = parameter.value.const_value
    if tensor is None or tensor.dtype not in _FLOATS or not _FEWEST <= tensor.size <= _LARGEST:
        return False
    if sum(size > 1 for size in tensor.shape.numpy()) != 1 or not _is_operand(parameter):
        return False
    return is_fixed(np.asarray(peeked(tensor)).reshape(-1), masks=_scales_branch(parameter))


def is_fixed(held: NDArray[Any], *, masks: bool = False) -> bool:
    """Whether a vector is a mask of zeros and ones (or of signs), or a progression: an even one, or a geometric one.

    A geometric one may fall towards 1: 1 - 2^-k, what is kept from one position to the next. ``masks``: ask for these
    alone.
    """
    values = held.astype(np.float64)
    if not np.isfinite(values).all():
        return False  # damaged weights, which are named when they are read
    return _is_mask(values) or (not masks and _is_progression(values, float(np.finfo(held.dtype).eps)))


def _is_mask(values: Array) -> bool:
    return any(set(np.unique(values[:_FEW])) <= marks == set(np.unique(values)) for marks in ({0.0, 1.0}, {-1.0, 1.0}))


def _is_progression(values: Array, digit: float) -> bool:
    """Whether a vector is an even or a geometric progression; ``digit``: the last one, of numbers near 1."""
    if _is_even(values, digit * float(np.abs(values).max())):
        return True
    signed = [law for law in (values, -values) if np.all(law > 0)]
    if any(_is_even(np.log(law), digit) for law in signed):
        return True
    rest = 1 - values
    return bool(np.all(rest > 0)) and _is_even(np.log(rest), digit / float(rest.min()))


def _is_even(values: Array, rounding: float) -> bool:
    step = abs(values[-1] - values[0]) / (values.size - 1)
    slack = _EVEN * step + rounding
    # So many numbers between the ends lie so near to their places; chance has a millionth for that.
    if step == 0 or slack > step / 2 or (values.size - 2) * np.log10(step / slack) < _SURE:
        return False
    return bool(np.all(np.abs(np.linspace(values[0], values[-1], values.size) - values) <= slack))


def _is_operand(parameter: Parameter) -> bool:
    """Whether every op that reads a parameter computes number by number with it and activations, as no bias does."""
    if parameter.kind not in _KINDS or not parameter.uses:
        return False
    return all(_meets_activations(parameter, node) for node, _ in parameter.uses)


def _meets_activations(parameter: Parameter, node: ir.Node) -> bool:
    if not computes(node, *_READERS):
        return False
    others = [value for value in node.inputs if value is not None and behind_views(value) is not parameter.value]
    if not others or any(_is_constant(value) for value in others):
        return False
    return not (computes(node, Calc.SUM, Calc.DIFFERENCE) and any(map(_is_mapped, others)))


def _is_constant(value: ir.Value) -> bool:
    made = behind_views(value)
    return made is not None and made.const_value is not None


def _is_mapped(value: ir.Value) -> bool:
    """Whether a value is what a linear map gives: what is added to it is a bias."""
    made = behind(value, lambda node: passes_on(node, IN_ORDER))
    node = None if made is None else made.producer()
    return node is not None and is_linear(node) and any(parameter_behind(v) is not None for v in node.inputs)


def _scales_branch(parameter: Parameter) -> bool:
    """Whether a sum of activations takes what a parameter scales: a layer scale, which begins as one number."""
    if parameter.kind != "scale":
        return False
    scaled = [output for node, _ in parameter.uses for output in node.outputs]
    return any(is_sum(node) and not any(map(_is_constant, filter(None, node.inputs)))
               for node, _ in uses_of(scaled, lambda node, _: passes_on(node, VIEW)))  # fmt: skip

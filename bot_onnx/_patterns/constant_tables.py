"""Constant tables that look like weights but that no training made: bins, selections, bases of waves, mel filters.

They are told by what they hold, never by a name: an even (or geometric) progression along their only axis, zeros and
ones that pick elements, rows that are windowed waves, fixed transforms, triangles over a frequency axis. Their sizes
mean something that a resize must not touch (a number of bins, of frequencies), so their axes stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.repeated_kernels import rows_repeated
from bot_onnx._onnxfile.peeking import Peek, Rows, peeked
from bot_onnx._onnxfile.weight_files import shown
from bot_onnx._ops import FORM, Calc, Move, computes, is_product, passes_on, record, reduces
from bot_onnx._ops.nodes import behind_views
from bot_onnx._ops.walk import forward
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._patterns.transforms import are_cosines, is_of_signs, is_transform
from bot_onnx._reasons import Reason, Why

Array = NDArray[np.floating[Any]]

_LARGEST = 1 << 22  #: elements of the largest table that is looked into: a basis of 2,048 samples
_LARGEST_MADE = 1 << 17  #: the same of one that has to be worked out first (packed weights)
_FEWEST_BINS = 4
_SAMPLE = 8  #: rows, and columns, that are looked at first
_FEWEST_SAMPLES = 16
_LOCAL = 64  #: rows along which a few columns are looked at before whole columns are
_NEAR_WAVE = 0.8  #: of the energy of a wave that so few rows show around one frequency: 0.93 and more
_FAR = 32  #: values between frequencies and their sines, at most
_LEAKAGE = 2  #: how far, in bins, a window spreads a wave


def find_constants(parameters: Mapping[str, Parameter]) -> frozenset[str]:
    """Names of the parameters that are constant tables."""
    return frozenset(name for name, parameter in parameters.items() if _is_constant(parameter))


def freeze_constants(parameters: Mapping[str, Parameter], constants: frozenset[str], context: AxisFacts) -> None:
    """Keep the axes of constant tables as they are."""
    for name in parameters:
        if name in constants:
            for dim in context.axes_of(parameters[name].value):
                context.table.freeze(dim, Reason.of(Why.CONSTANT, name))


def repeated_rows(parameter: Parameter) -> int | None:
    """Rows of the block that a kernel holds for every group of its convolutions, or None; see :func:`rows_repeated`."""
    if parameter.kind != "kernel":
        return None
    rows = {rows_repeated(node) if slot == 1 else None for node, slot in parameter.uses}
    return rows.pop() if len(rows) == 1 else None


def feeds_rotary(value: ir.Value) -> bool:
    """Whether a value runs into sines and cosines: frequencies, for which there is a formula."""
    angles = forward(value, lambda node, _: _makes_angles(node), most=_FAR)
    return any(computes(node, Calc.SINE) for angle in angles for node, _ in angle.uses())


def _makes_angles(node: ir.Node) -> bool:
    """Whether a node takes frequencies times positions, or brings them into another form."""
    return passes_on(node, FORM | Move.JOINED) or computes(node, Calc.PRODUCT) or is_product(node)


def _is_constant(parameter: Parameter) -> bool:
    tensor = parameter.value.const_value
    if tensor is None or tensor.size > _LARGEST or feeds_rotary(parameter.value):
        return False
    lengths = [length for length in tensor.shape.numpy() if length > 1]
    if parameter.kind == "scale":
        return len(lengths) == 1 and _weighs_bins(parameter) and _is_progression(_values(tensor))
    if parameter.kind == "embedding":
        return len(lengths) == 2 and _are_picks(peeked(tensor)[:_SAMPLE]) and _is_selection(_values(tensor))
    if parameter.kind not in ("matrix", "kernel") or repeated_rows(parameter) is not None:
        return False
    if len(lengths) == 1:
        values = _values(tensor)
        return _is_progression(values) or (_follows_softmax(parameter) and _is_monotone(values))
    if len(lengths) != 2:
        return False
    if isinstance(tensor, ir.LazyTensor) and tensor.size > _LARGEST_MADE:
        return False
    array = peeked(tensor).reshape(lengths)
    return not _is_surely_none(array) and _is_table(np.asarray(array))


def _is_surely_none(array: Rows) -> bool:
    """Whether a few rows, and a few columns along some of the rows, show that a matrix is no table.

    A column touches every page of a file's map, so that whole ones would read all weights of a network. What holds
    nearly all its energy around one frequency does so along any stretch of it where its window is open.
    """
    if len(array) < 4 * _LOCAL:
        return False
    picked = np.linspace(0, len(array) - 1, _SAMPLE).astype(int)
    starts = (len(array) // 4, len(array) // 2)
    if isinstance(array, Peek):
        array.fetch(picked, *(slice(start, start + _LOCAL) for start in starts))
    rows = array[picked]
    if not np.isfinite(rows).all():
        return True  # damaged weights, which are named when they are read
    if rows.min() >= 0 or bool(np.all(_are_waves(rows.astype(np.float64)))):
        return False
    if is_of_signs(rows) or are_cosines(rows, picked, np.arange(array.shape[1]), array.shape[1]):
        return False
    columns = np.linspace(0, array.shape[1] - 1, _SAMPLE).astype(int)
    for start in starts:
        stretch = array[start : start + _LOCAL, columns].T
        if are_cosines(stretch, columns, start + np.arange(_LOCAL), len(array)):
            return False
        if bool(np.all(_are_waves(stretch.astype(np.float64), _NEAR_WAVE))):
            return False
    return True


def _is_table(array: NDArray[Any]) -> bool:
    """Whether a matrix is a table. A few rows and columns show of nearly every trained one that it is none."""
    if is_transform(array):
        return True
    sides = [(side, side[np.linspace(0, len(side) - 1, _SAMPLE).astype(int)]) for side in (array, array.T)]
    if not all(np.isfinite(few).all() for _, few in sides):
        return False  # damaged weights, which are named when they are read
    if all(few.min() >= 0 for _, few in sides):
        values = array.astype(np.float64)
        return _is_selection(values) or _is_filterbank(values)
    return any(
        bool(np.all(_are_waves(few.astype(np.float64)))) and _is_fourier(side.astype(np.float64)) for side, few in sides
    )


def _values(tensor: ir.TensorProtocol) -> Array:
    values: Array = np.asarray(shown(tensor)).astype(np.float64)
    return values


def _is_progression(values: Array) -> bool:
    """Whether a vector is evenly spaced: 0, 1, 2 … or any other such bins."""
    flat = values.reshape(-1)
    if flat.size < _FEWEST_BINS or not np.isfinite(flat).all():
        return False
    step = (flat[-1] - flat[0]) / (flat.size - 1)
    even = flat[0] + step * np.arange(flat.size)
    return bool(step != 0 and np.allclose(flat, even, rtol=0, atol=1e-3 * abs(step)))


def _is_monotone(values: Array) -> bool:
    """Whether bins ascend or descend, by whatever law; too few of them do so by chance."""
    steps = np.diff(values.reshape(-1))
    return steps.size + 1 >= 2 * _FEWEST_BINS and bool(np.all(steps > 0) or np.all(steps < 0))


def _are_picks(values: Array) -> bool:
    return bool(np.all((values == 0) | (values == 1)))


def _is_selection(values: Array) -> bool:
    """Whether a matrix of zeros and ones picks elements: at most one 1 in a row (or in a column), but not all alike."""
    if not _are_picks(values) or values.sum() < 2:
        return False
    return bool(np.all(values.sum(0) <= 1) or np.all(values.sum(-1) <= 1))


def _is_fourier(rows: Array) -> bool:
    """Whether every row is a windowed wave, and they are waves of many frequencies."""
    if not np.all(_are_waves(rows)):
        return False
    peaks = np.abs(np.fft.rfft(rows, axis=1)).argmax(1)
    return len(set(peaks.tolist())) > max(2, len(rows) // 8)


def _are_waves(rows: Array, share: float = 0.98) -> NDArray[np.bool_]:
    """Whether rows hold this share of their energy around one frequency; nothing at all (the sine of zero) will do."""
    if rows.shape[1] < _FEWEST_SAMPLES:
        return np.zeros(len(rows), np.bool_)
    energy = np.abs(np.fft.rfft(rows, axis=1)) ** 2
    near = np.abs(np.arange(energy.shape[1])[None] - energy.argmax(1)[:, None]) <= _LEAKAGE
    held: NDArray[np.bool_] = (energy * near).sum(1) >= share * energy.sum(1)
    return held


def _is_filterbank(values: Array) -> bool:
    """Whether columns (or rows) are bands over the other axis: no negative number, one run of positive ones each."""
    if min(values.shape) < _FEWEST_BINS or max(values.shape) < _FEWEST_SAMPLES or np.any(values < 0):
        return False
    if np.count_nonzero(values) > values.size // 2 or not np.any(values):
        return False
    return any(bool(np.all(np.count_nonzero(np.diff(np.pad(m > 0, ((1, 1), (0, 0))), axis=0), axis=0) <= 2))
               for m in (values, values.T))  # fmt: skip


def _follows_softmax(parameter: Parameter) -> bool:
    """Whether what is contracted with a table is a distribution over it."""
    for node, slot in parameter.uses:
        other = behind_views(next((v for index, v in enumerate(node.inputs) if index != slot), None))
        maker = other.producer() if other is not None else None
        if maker is not None and record(maker).distribution:
            return True
    return False


def _weighs_bins(parameter: Parameter) -> bool:
    """Whether a product with a vector is summed up at once: a contraction that is written out."""
    return any(reduces(usage.node, "sum") for node, _ in parameter.uses for out in node.outputs for usage in out.uses())

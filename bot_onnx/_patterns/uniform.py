"""Matrices of one number: means and sums that an exporter wrote as a product (for a device that has no reduction)."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from bot_onnx._onnxfile.peeking import peeked
from bot_onnx._patterns.closed_forms import MEAN
from bot_onnx._patterns.parameters import Parameter

_LARGEST = 1 << 22  #: elements of the largest matrix that is looked into
_LARGEST_MADE = 1 << 17  #: the same of one that has to be worked out first (packed weights)
_HALF = 2  #: bytes of a number in half precision
_TAPS = 2  #: first axis of a kernel's taps


def is_uniform(parameter: Parameter) -> bool:
    """Whether a matrix, or a kernel of one tap, holds one number throughout; zeros are a branch before its training."""
    tensor = parameter.value.const_value
    if tensor is None or parameter.kind not in ("matrix", "kernel") or tensor.size > _LARGEST:
        return False
    if parameter.kind == "kernel" and prod(tensor.shape.numpy()[_TAPS:]) > 1:
        return False
    if isinstance(tensor, ir.LazyTensor) and tensor.size > _LARGEST_MADE:
        return False
    rows = peeked(tensor)
    first = rows[0].reshape(-1)
    if first[0] == 0 or not np.all(first == first[0]):
        return False  # known of trained ones by a row
    return bool(np.all(np.asarray(rows) == first[0]))


def recognise_uniform(parameter: Parameter) -> str | None:
    """Closed form of a matrix for which :func:`is_uniform` holds, or None where nothing says what its number follows.

    ``mean:<axes>``: 1/n, of the n elements along these axes, which are contracted. ``constant:1``: it sums, or repeats.
    """
    tensor = parameter.value.const_value
    assert tensor is not None
    number = float(peeked(tensor)[0].reshape(-1)[0])
    axes = [axis for axis, direction in enumerate(parameter.directions) if direction == "in"]
    share = 1 / prod(tensor.shape.numpy()[axis] for axis in axes)
    if abs(number - share) <= (1e-5 if tensor.dtype.itemsize > _HALF else 2**-8) * share:
        return f"{MEAN}:{','.join(map(str, axes))}" if axes else "constant:1"
    return "constant:1" if number == 1 else None

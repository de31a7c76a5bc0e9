"""Packed weights as floating-point tensors: ``(stored - zero point) * scale``, worked out when they are read.

Nothing is kept: a tensor costs memory only while it is in use.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx.errors import GraphError

Floats = NDArray[np.generic]
Tensor = ir.TensorProtocol


def lazily(make: Callable[[], Floats], dtype: ir.DataType, shape: tuple[int, ...]) -> ir.LazyTensor:
    """A tensor whose values ``make`` works out anew each time they are asked for.

    Raises:
        GraphError: when they are asked for, and scales, zero points or bytes are too many or too few for the shape.
    """

    def produce() -> Tensor:
        try:
            values = np.asarray(make(), dtype=dtype.numpy(), order="C")  # a number stays one, without an axis
        except (ValueError, IndexError, TypeError) as error:
            raise GraphError(f"{_unfit(shape)}: {one_line(error)}; export the model again") from error
        if values.shape != shape:
            raise GraphError(f"{_unfit(shape)}, but would be {list(values.shape)}: export the model again")
        return ir.Tensor(values, dtype=dtype)

    return ir.LazyTensor(produce, dtype, ir.Shape(shape))


def _unfit(shape: tuple[int, ...]) -> str:
    return f"packed weights of shape {list(shape)} do not go with their scales or zero points"


def dequantised(
    stored: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int, block: int = 0, factor: Tensor | None = None
) -> ir.LazyTensor:
    """Values of a tensor quantised as a whole, along ``axis``, or in blocks along it.

    Args:
        stored: integers, or small floats.
        scale: a scalar; a vector along ``axis``; where ``block`` is given, of the tensor's rank.
        zero_point: as ``scale``; None: 0.
        axis: see ``scale``. block: numbers along ``axis`` that share a scale; 0: no blocks.
        factor: another scale of the same kind as ``scale``, multiplied (a bias has those of input and weight).

    Returns:
        A tensor of the scale's type.
    """
    shape = tuple(stored.shape.numpy())
    axis %= max(len(shape), 1)

    def make() -> Floats:
        wide = np.asarray(stored.numpy()).astype(np.float32)
        if zero_point is not None:
            wide -= _spread(zero_point, shape, axis, block)
        wide *= _spread(scale, shape, axis, block)
        if factor is not None:
            wide = wide * _spread(factor, shape, axis, block)
        return wide

    return lazily(make, ir.DataType(scale.dtype), shape)


def _spread(numbers: Tensor, shape: tuple[int, ...], axis: int, block: int) -> NDArray[np.float32]:
    """Scales or zero points in a shape that broadcasts against the values'."""
    array = np.asarray(numbers.numpy()).astype(np.float32)
    if block:
        repeated: NDArray[np.float32] = np.repeat(array, block, axis=axis)
        return repeated.take(range(shape[axis]), axis=axis)
    if array.size == 1:
        return array.reshape(())
    if array.ndim == len(shape):
        return array
    return array.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def unpacked_blocks(
    stored: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    groups: Tensor | None,
    shape: tuple[int, int],
    bits: int,
    block: int,
) -> ir.LazyTensor:
    """A weight ``[K, N]`` stored by column in blocks of ``block`` numbers of ``bits`` bits (MatMulNBits).

    Args:
        stored: uint8 ``[N, blocks, block * bits / 8]``, low bits first.
        scales: one a block. zero_points: packed like the values, or floats, one a block; None: the middle.
        groups: index of the block that each of the K rows uses; None: consecutive ones.
        shape: (K, N). bits, block: see above.
    """
    rows, columns = shape
    blocks = -(-rows // block)

    def make() -> Floats:
        values = _numbers(np.asarray(stored.numpy()), bits).reshape(columns, blocks * block)[:, :rows]
        index = np.arange(rows) // block if groups is None else np.asarray(groups.numpy())[:rows]
        scale = np.asarray(scales.numpy()).astype(np.float32).reshape(columns, blocks)
        middle = np.full((columns, blocks), float(1 << (bits - 1)), np.float32)
        if zero_points is not None:
            given = np.asarray(zero_points.numpy())
            if given.dtype == np.uint8:
                middle = _numbers(given.reshape(columns, -1), bits)[:, :blocks].astype(np.float32)
            else:
                middle = given.astype(np.float32).reshape(columns, blocks)
        return ((values.astype(np.float32) - middle[:, index]) * scale[:, index]).T

    return lazily(make, ir.DataType(scales.dtype), shape)


def _numbers(stored: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Unpack the last axis: ``8 / bits`` numbers a byte, low bits first."""
    if bits == 8:
        return stored
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread = (stored[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*stored.shape[:-1], stored.shape[-1] * len(shifts)).astype(np.uint8)


def unpacked_table(
    stored: Tensor, scales: Tensor, zero_points: Tensor | None, axis: int, bits: int, block: int
) -> ir.LazyTensor:
    """A table in blocks along ``axis`` (GatherBlockQuantized); bytes hold several numbers along the last axis."""
    shape = tuple(stored.shape.numpy())
    several = 8 // bits if stored.dtype == ir.DataType.UINT8 else 1
    full = (*shape[:-1], shape[-1] * several)
    axis %= len(full)

    def make() -> Floats:
        values = np.asarray(stored.numpy())
        zeros = None if zero_points is None else np.asarray(zero_points.numpy())
        middle = 0.0
        if stored.dtype == ir.DataType.UINT8:
            values = _numbers(values, bits)
            middle = float(1 << (bits - 1))
            zeros = None if zeros is None else _numbers(zeros, bits)
        wide = values.astype(np.float32)
        scale = np.asarray(scales.numpy()).astype(np.float32)
        if zeros is None:
            wide -= middle
        else:
            wide -= _repeat(zeros.astype(np.float32).take(range(scale.shape[-1]), axis=-1), block, full, axis)
        return wide * _repeat(scale, block, full, axis)

    return lazily(make, ir.DataType(scales.dtype), full)


def _repeat(array: NDArray[np.float32], block: int, shape: tuple[int, ...], axis: int) -> NDArray[np.float32]:
    repeated: NDArray[np.float32] = np.repeat(array, block, axis=axis)
    return repeated.take(range(shape[axis]), axis=axis)


def turned(tensor: Tensor, perm: tuple[int, ...]) -> ir.LazyTensor:
    """A tensor with its axes permuted."""
    shape = tensor.shape.numpy()
    target = tuple(shape[axis] for axis in perm)
    return lazily(lambda: np.asarray(tensor.numpy()).transpose(perm), ir.DataType(tensor.dtype), target)


def elements(tensor: Tensor) -> int:
    """Number of elements."""
    return prod(tensor.shape.numpy())

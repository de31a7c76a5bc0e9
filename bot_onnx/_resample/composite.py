"""The matrix that a whole axis of a network's results takes, leaf by leaf."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.mapping import duplicate, selection_matrix
from bot_onnx._resample.registry import MethodOptions, get_method, make_options
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role


def leaf_matrix(leaf: Axis, method: str, options: MethodOptions, seed: int = 0) -> NDArray[np.float64]:
    """What ``method`` does along a leaf of activations, ``[target, source]``; copies are drawn by the seed and the dim.

    Raises:
        ResampleError: the method applies no linear operator.
    """
    mapping = getattr(options, "mapping", None)
    if mapping is not None:
        return selection_matrix(leaf, partial(duplicate, mapping=mapping, seed=seed), contracted=False)
    return get_method(method).leaf_matrix(leaf, options)


def axis_matrix(
    axis: Axis, method: str = "bot", options: MethodOptions | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """What ``method`` does along an axis of activations: source values times this are the target's.

    A product takes the Kronecker product of its parts' matrices, a concatenation each part's own along the diagonal; a
    leaf its law, a leaf of tokens keeps the first ones (and gives new ones the mean).

    Args:
        axis: of a work order, or of :func:`bot_onnx._surgery.tasks.build_axis`.
        method: name of the method.
        options: of the method; None: its defaults.
        seed: of the run.

    Returns:
        float64 array of shape ``[axis.target, axis.source]``, gain 1 under the conventions that keep the function.

    Raises:
        ResampleError: the method applies no linear operator.
    """
    given = make_options(method) if options is None else options

    def matrix(part: Axis) -> NDArray[np.float64]:
        if part.kind == "product":
            whole: NDArray[np.float64] = np.ones((1, 1))
            for inner in part.parts:
                whole = np.asarray(np.kron(whole, matrix(inner)), dtype=np.float64)
            return whole
        if part.kind == "concat":
            return _along_diagonal([matrix(inner) for inner in part.parts])
        if part.source == part.target:
            return np.eye(part.source)
        if part.role == Role.VOCAB:
            kept = np.eye(part.target, part.source)
            kept[part.source :] = 1.0 / part.source
            return kept
        return leaf_matrix(part, method, given, seed)

    return matrix(axis)


def _along_diagonal(blocks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    rows, columns = (sum(block.shape[side] for block in blocks) for side in (0, 1))
    out = np.zeros((rows, columns))
    row = column = 0
    for block in blocks:
        out[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return out

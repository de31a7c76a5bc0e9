"""Kernels of grouped convolutions that hold one block for every group: filters that somebody chose, never trained.

A blur before a pool, the taps of an unfold, a wavelet's sub-bands. At another number of groups the block is repeated as
often as there are groups; what lies within it (taps, sub-bands) is a count that stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._onnxfile.peeking import peeked
from bot_onnx._ops.nodes import FLOATS, behind_views


def rows_repeated(node: ir.Node) -> int | None:
    """How many rows of a convolution's kernel make the block that is repeated for every group.

    None where it has one group, where groups differ, or where all is zero: a branch that does nothing yet, which
    training takes apart.
    """
    groups = node.attributes.get_int("group", 1) if "group" in node.attributes else 1
    value = behind_views(node.inputs[1]) if groups > 1 else None
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.dtype not in FLOATS or tensor.shape.numpy()[0] % groups:
        return None
    kernel = peeked(tensor)
    rows = len(kernel) // groups
    if not np.array_equal(kernel[0], kernel[rows]):
        return None  # known of trained ones without the rest of them
    blocks = np.asarray(kernel).reshape(groups, rows, *kernel.shape[1:])
    return rows if np.any(blocks[0]) and bool(np.all(blocks == blocks[:1])) else None

"""Amplitudes: which gain an axis' operator takes, and the spread of weights that a trainer would start from.

``ortho`` is the orthonormal transform, exponents ½ on every axis of width. ``value`` keeps the function: exponent 0
everywhere but 1, with the dual operator, on the contracted axis of a matrix or kernel. ``std-source`` and
``std-fresh`` take no gain at all and then rescale each stack of matrices, kernels, embeddings or tables as a whole, to
the standard deviation of the source's stack or of a fresh initialisation; norms, biases and scales keep their values.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Literal

from bot_onnx._resample.axes import CONTRACTED_KINDS, LOOKED_UP_ROLES
from bot_onnx._resample.filters import Form
from bot_onnx._stack.types import StackTask
from bot_onnx._structure import Direction, TensorKind

Convention = Literal["ortho", "value", "std-source", "std-fresh"]

#: Kinds that the ``std-`` conventions rescale.
RESCALED_KINDS = frozenset({"matrix", "kernel", "embedding", "table"})
#: Standard deviation that transformers start from.
FRESH_STD = 0.02


def chosen_convention(convention: Convention | None, source: int, target: int) -> Convention:
    """The convention of one size change: as asked, else ``ortho`` for shrinking and ``value`` for growing."""
    return convention or ("ortho" if target < source else "value")


def leaf_form(kind: TensorKind, direction: Direction, role: str, convention: Convention) -> Form:
    """Which form of its operator a leaf axis takes: the exponents of the conventions."""
    if role in LOOKED_UP_ROLES:
        return "unit"
    if convention == "ortho":
        return "sqrt"
    return "dual" if convention == "value" and direction == "in" and kind in CONTRACTED_KINDS else "unit"


def fresh_std(task: StackTask, std: float = FRESH_STD, *, residual_scaling: bool = True) -> float:
    """Standard deviation of a fresh matrix, kernel, embedding or table at the target size.

    * a kernel: √(2 / fan_in), fan_in = input channels per group times taps (He et al. 2015);
    * what writes to the residual stream of a pre-norm network: std / √(2·layers), two writers a layer (GPT-2);
    * all others: std.

    Args:
        task: its stack.
        std: of matrices, embeddings and tables.
        residual_scaling: apply the second rule.
    """
    if task.kind == "kernel":
        ways = zip(task.axes, task.directions, strict=True)
        return sqrt(2.0 / prod(axis.target for axis, way in ways if way != "out"))
    if residual_scaling and task.writes_residual and task.residual == "pre-norm":
        return std / sqrt(2.0 * task.total_layers[1])
    return std

"""The work order of the resampler: one stack, how each of its axes changes, and what its axes mean.

A :class:`StackTask` is plain data: the Plan stores it, a resampling method reads it, neither knows the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bot_onnx._structure import Direction, Residual, Role, TensorKind

#: How a leaf grows: see :class:`Axis`.
Law = Literal["even", "zeros", "means"]


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis changes size, with its composition.

    Attributes:
        kind: ``leaf``; ``product`` (mixed radix, first part slowest); ``concat``.
        source, target: sizes; for a product the product of its parts', for a concat their sum.
        role: role of the dim (``hidden``, ``heads``, ``head_dim``, …).
        parts: of a product or concat, in order.
        score: True on the axis (or top-level concat part) that carries queries or keys into attention scores: there
            the head_dim correction applies. ``head_dim`` gives (source, target) of the contracted axis.
        head_dim: (source, target) of head_dim where ``score`` is set, else None.
        dim: id of the dim, the same on every tensor that carries it; empty where a task is made by hand.
        law: how a leaf grows: ``even``, all its indices alike (the method's own way); ``zeros``, by indices that hold
            0; ``means``, by indices that hold the mean of the others. Only a method that keeps the function is given
            the last two.
    """

    kind: Literal["leaf", "product", "concat"]
    source: int
    target: int
    role: str = Role.FREE
    parts: tuple[Axis, ...] = ()
    score: bool = False
    head_dim: tuple[int, int] | None = None
    dim: str = ""
    law: Law = "even"


@dataclass(frozen=True, slots=True)
class StackTask:
    """One stack to resample.

    Attributes:
        stack: id of the stack.
        name: for messages.
        kind, directions, writes_residual, before_tied_head: see :class:`bot_onnx._structure.Stack`.
        axes: one per tensor axis; ``source`` sizes multiply to the source tensor's shape.
        layers: (source, target) number of layers; (1, 1) outside the layers or where the layers share the tensor.
        total_layers: (source, target) depth of the chain the stack belongs to (or of the deepest chain of the model).
        picks: where the layers are chosen: per target layer the source's; empty: the method says how they are made.
        turns: after how many layers what they read from outside is the same again (local and global masks); 0
            where they hold numbers of their places instead.
        residual: the kind of the chain's residual stream, or outside of chains the model's.
        norm_position: for a norm inside a layer, ``last`` if it is the layer's last one, else ``inner``; None else.
        offset: what the graph adds to the tensor before it is used (the 1 of norms that scale by 1 + w).
        gain: what the values, with their offset, are multiplied with to keep the function at the target's sizes.
        shared: key of the tensors where another file, resized together with this one, holds them as well; else empty.
    """

    stack: str
    name: str
    kind: TensorKind
    axes: tuple[Axis, ...]
    directions: tuple[Direction, ...]
    layers: tuple[int, int] = (1, 1)
    total_layers: tuple[int, int] = (1, 1)
    picks: tuple[int, ...] = ()
    turns: int = 1
    writes_residual: bool = False
    before_tied_head: bool = False
    residual: Residual = "none"
    norm_position: Literal["inner", "last"] | None = None
    offset: float = 0.0
    gain: float = 1.0
    shared: str = ""

    @property
    def draws(self) -> str:
        """Key of its own random stream: the same in all files that hold these tensors."""
        return self.shared or self.stack

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of one layer's tensor in the source."""
        return tuple(axis.source for axis in self.axes)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one layer's tensor in the target."""
        return tuple(axis.target for axis in self.axes)

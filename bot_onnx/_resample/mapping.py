"""Index maps: every index of a target axis taken from one source index, and the counts that growing leaves behind.

A *leaf rule* gives the source index of every target index of a leaf. Composite axes follow from their leaves: in a
product the pair (a, b) comes from the pair of the parts' sources, a concatenation goes part by part. As rules depend
on the dim and not on the tensor, all the tensors that carry a dim agree.

For growth, with c_s the number of target indices that come from source index s, a contraction over the grown axis
is kept by 1/c on every copy: Σ_t x_{g(t)} W_{g(t)} / c_{g(t)} = Σ_s x_s W_s (Chen, Goodfellow & Shlens 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.arrays import Array, Namespace, dtype_name
from bot_onnx._resample.axes import CONTRACTED_KINDS, LOOKED_UP_ROLES, changes
from bot_onnx._resample.draws import stream
from bot_onnx._resample.operators import select_vocabulary
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role

Indices = NDArray[np.int64]
LeafRule = Callable[[Axis], Indices]
#: What the copies of a leaf's indices have of a contraction, of the leaf and its map: summing to 1 by source index.
ShareRule = Callable[[Axis, Indices], NDArray[np.float64]]
Mapping = Literal["random", "cyclic"]
ScalarT = TypeVar("ScalarT", bound=np.generic)


def spread_evenly(axis: Axis) -> Indices:
    """The indices of a shrinking leaf, evenly spaced over the source: every r-th where the ratio r is whole.

    Else the integers nearest to ``target`` points from the first to the last index. What is looked up keeps its
    first indices: position p stays position p.
    """
    if axis.role in LOOKED_UP_ROLES:
        return np.arange(axis.target)
    if axis.source % axis.target == 0:
        return np.arange(axis.target) * (axis.source // axis.target)
    return np.rint(np.linspace(0, axis.source - 1, axis.target)).astype(np.int64)


def duplicate(axis: Axis, mapping: Mapping, seed: int) -> Indices:
    """The source of every index of a growing leaf: each itself, then copies, balanced to ⌊m/n⌋ or ⌈m/n⌉ of each.

    ``cyclic``: 0 … n-1 over and over. ``random``: a fresh permutation every time round, drawn from a stream of the
    seed and the dim alone. What is looked up is always repeated cyclically. Copies of a key and value head stand side
    by side in both: query heads are dealt out to them in order.
    """
    if axis.role == Role.KV_HEADS:
        return np.arange(axis.target) * axis.source // axis.target
    rounds = -(-axis.target // axis.source)
    if mapping == "cyclic" or axis.role in LOOKED_UP_ROLES:
        return np.arange(axis.target) % axis.source
    rng = stream(seed, f"dim {axis.dim or f'{axis.role} {axis.source} {axis.target}'}", 0)
    again = [rng.permutation(axis.source) for _ in range(rounds - 1)]
    return np.concatenate([np.arange(axis.source), *again])[: axis.target]


@dataclass(frozen=True, eq=False)
class AxisMap:
    """The map of one axis, ``n`` its target size.

    Attributes:
        index: int64 ``[n]``, source index of every target index.
        share: float64 ``[n]``, 1/c.
        part: float64 ``[n]``, the part that each copy has of a contraction: 1/c too, or what a rule of shares says.
        copied: bool ``[n]``, True on what is not the first index made of its source.
        score: float64 ``[n]``, gain of queries and keys: see :func:`_score_gain`.
    """

    index: Indices
    share: NDArray[np.float64]
    part: NDArray[np.float64]
    copied: NDArray[np.bool_]
    score: NDArray[np.float64]

    @classmethod
    def of(cls, axis: Axis, rule: LeafRule, shares: ShareRule | None = None) -> AxisMap:
        """Build it from the leaves' rules."""
        if axis.kind == "leaf":
            built = cls._of_leaf(axis, rule, shares)
        else:
            parts = [cls.of(_scored(part, axis), rule, shares) for part in axis.parts]
            built = _product(parts, axis.parts) if axis.kind == "product" else _concat(parts, axis.parts)
        return built if not axis.score else replace(built, score=_score_gain(axis, built))

    @classmethod
    def _of_leaf(cls, axis: Axis, rule: LeafRule, shares: ShareRule | None) -> AxisMap:
        index = rule(axis) if axis.source != axis.target else np.arange(axis.source)
        counts = np.bincount(index, minlength=axis.source)
        share = np.ones(axis.target) if axis.role in LOOKED_UP_ROLES else 1.0 / counts[index]
        copied = np.ones(axis.target, dtype=bool)
        copied[np.unique(index, return_index=True)[1]] = False
        uneven = shares is not None and axis.source != axis.target and axis.role not in LOOKED_UP_ROLES
        part = shares(axis, index) if shares is not None and uneven else share
        return cls(index, share, part, copied, np.ones(axis.target))


def _scored(part: Axis, whole: Axis) -> Axis:
    """A part that is, or holds, the head_dim of an axis of queries and keys: it carries the mark on."""
    holds = whole.score and any(found.role == Role.HEAD_DIM for found in _nodes(part))
    return replace(part, score=True, head_dim=whole.head_dim) if holds else part


def _nodes(axis: Axis) -> Iterator[Axis]:
    yield axis
    for part in axis.parts:
        yield from _nodes(part)


def _score_gain(axis: Axis, found: AxisMap) -> NDArray[np.float64]:
    """Gain of queries and keys: √(1/c) · (d_t / d_s)^¼ along head_dim.

    q·k then sums every source index once, and the divisor's change from √d_s to √d_t is made good. Where head_dim
    is no part of its own, copies are taken to be equally many: (d_s / d_t)^¼ throughout.
    """
    gain = found.score
    if axis.role == Role.HEAD_DIM:
        gain = np.sqrt(found.share) * (axis.target / axis.source) ** 0.25
    elif axis.head_dim and not any(part.role == Role.HEAD_DIM for part in _nodes(axis)):
        gain = gain * (axis.head_dim[0] / axis.head_dim[1]) ** 0.25
    return gain


def _product(maps: Sequence[AxisMap], parts: Sequence[Axis]) -> AxisMap:
    index = np.zeros(1, dtype=np.int64)
    for one, part in zip(maps, parts, strict=True):
        index = (index[:, None] * part.source + one.index).reshape(-1)
    return AxisMap(
        index,
        reduce(lambda a, b: np.outer(a, b).reshape(-1), (one.share for one in maps)),
        reduce(lambda a, b: np.outer(a, b).reshape(-1), (one.part for one in maps)),
        reduce(lambda a, b: np.logical_or.outer(a, b).reshape(-1), (one.copied for one in maps)),
        reduce(lambda a, b: np.outer(a, b).reshape(-1), (one.score for one in maps)),
    )


def _concat(maps: Sequence[AxisMap], parts: Sequence[Axis]) -> AxisMap:
    starts = np.cumsum([0, *(part.source for part in parts)])
    return AxisMap(
        np.concatenate([one.index + start for one, start in zip(maps, starts, strict=False)]),
        np.concatenate([one.share for one in maps]),
        np.concatenate([one.part for one in maps]),
        np.concatenate([one.copied for one in maps]),
        np.concatenate([one.score for one in maps]),
    )


@dataclass(frozen=True, eq=False)
class Selection:
    """The maps of all the axes of one task's tensors.

    Attributes:
        task: the work order.
        rule: of the leaves.
        split: share contractions among copies (growing); else values are taken as they are.
        shares: how; None: equally.
    """

    task: StackTask
    rule: LeafRule
    split: bool
    shares: ShareRule | None = None

    @cached_property
    def _maps(self) -> list[AxisMap | None]:
        return [
            AxisMap.of(axis, self.rule, self.shares) if changes(axis) and axis.role != Role.VOCAB else None
            for axis in self.task.axes
        ]

    @cached_property
    def _gains(self) -> list[NDArray[np.float64] | None]:
        """Factor per index of every axis, None where it is 1 throughout.

        A contracted axis takes the shares, and so does the last norm before a head that is tied to the embedding:
        the head itself holds unshared copies.
        """
        if not self.split:
            return [None] * len(self.task.axes)
        gains: list[NDArray[np.float64] | None] = []
        for found, direction in zip(self._maps, self.task.directions, strict=True):
            contracted = direction == "in" and self.task.kind in CONTRACTED_KINDS
            if found is None:
                gains.append(None)
                continue
            gain = found.score
            if contracted or self.task.before_tied_head:
                gain = gain * (found.part if contracted else found.share)
            gains.append(None if np.all(gain == 1.0) else gain)
        return gains

    def apply(self, x: Array, xp: Namespace) -> Array:
        """Tensor of ``task.source_shape`` to ``task.target_shape``."""
        for position, (axis, found) in enumerate(zip(self.task.axes, self._maps, strict=True)):
            if found is not None:
                x = xp.take(x, xp.asarray(found.index), axis=position)
            elif changes(axis):
                rows = (int(np.prod(x.shape[:position])), x.shape[position], int(np.prod(x.shape[position + 1 :])))
                shape = (*x.shape[:position], axis.target, *x.shape[position + 1 :])
                x = xp.reshape(select_vocabulary(xp.reshape(x, rows), axis.target, xp), shape)
        for position, gain in enumerate(self._gains):
            if gain is not None:
                x = x * xp.asarray(_along(gain, position, len(self.task.axes)).astype(dtype_name(x)))
        return x

    def copied_outputs(self) -> NDArray[np.bool_] | None:
        """True on the outputs that are copies, shaped to broadcast over the tensor; None where there are none."""
        mask: NDArray[np.bool_] | None = None
        for position, (found, direction) in enumerate(zip(self._maps, self.task.directions, strict=True)):
            if found is not None and direction == "out" and found.copied.any():
                here = _along(found.copied, position, len(self.task.axes))
                mask = here if mask is None else mask | here
        return mask


def _along(values: NDArray[ScalarT], position: int, rank: int) -> NDArray[ScalarT]:
    """A vector as an array of ``rank`` axes that varies along one of them."""
    return values.reshape([-1 if axis == position else 1 for axis in range(rank)])


def selection_matrix(axis: Axis, rule: LeafRule, *, contracted: bool) -> NDArray[np.float64]:
    """The map of a plain leaf as a matrix, ``[target, source]``, with the shares where the axis is contracted."""
    found = AxisMap.of(axis, rule)
    matrix = np.zeros((axis.target, axis.source))
    matrix[np.arange(axis.target), found.index] = found.share if contracted else 1.0
    return matrix

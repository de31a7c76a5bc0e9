"""The target's weights as functions of trained operators.

Of a stack with source tensors W_l, its target tensors are

    W'_k = C_k + Σ_l D_kl · (R_o(l) W_l R_i(l)ᵀ ∘ g)

R: the operators of its axes (:mod:`bot_onnx._learn.parameters`), applied leaf by leaf; g: what the method multiplies
the axes with; D: weights over layers, trained where the depth changes. The source is the aligned one with nothing cut
off: where an alignment cuts (a turned stream, chosen neurons), its cut is where the operator starts. C, which stays, is
what the method's own result holds besides: noise, layers that must do nothing, the rounding. So all weights are the
method's before the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align import Aligned
from bot_onnx._learn.axes import is_learned, mapped, mixed, unmixed
from bot_onnx._learn.mixing import Mixing, find_mixings
from bot_onnx._learn.parameters import Operators, Start, Use
from bot_onnx._learn.starts import MethodStarts
from bot_onnx._recover.extras import torch
from bot_onnx._resample.axes import changes, walk
from bot_onnx._resample.operators import select_vocabulary
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role
from bot_onnx._surgery.types import StackPlan
from bot_onnx.errors import ResampleError

Array = NDArray[Any]

_KEPT = 1e-4  # part of a tensor's largest value from which on what is kept besides is worth telling
_SCALED = 1e-5  # the same, of what a factor for the whole stack leaves


@dataclass(slots=True)
class _Learned:
    """One stack: how it is made of the source.

    Attributes:
        plan: what happens to it. axes: how each of its axes changes under ``uses``.
        layers: its source tensors, what is not mixed resampled already. depth: ``[target layers, source layers]``.
        uses: by source layer, number of the axis, and leaf. gain: broadcasts over ``[layers, *shape]``, or None.
    """

    plan: StackPlan
    axes: tuple[Axis, ...]
    layers: list[Any]
    depth: Any
    uses: dict[tuple[int, int, Axis], Use]
    gain: Any

    def made(self) -> Any:
        """The stack, ``[target layers, *shape]``, without what is kept besides."""
        library = torch()
        whole = library.stack([self._resampled(layer) for layer in range(len(self.layers))])
        made = library.tensordot(self.depth, whole, dims=1)
        return made if self.gain is None else made * self.gain

    def _resampled(self, layer: int) -> Any:
        x, shape = self.layers[layer], [axis.source for axis in self.axes]
        for place in sorted(range(len(shape)), key=lambda place: self.axes[place].target / shape[place]):
            axis = self.axes[place]
            if not changes(axis):
                continue
            x = x.reshape(prod(shape[:place]), shape[place], prod(shape[place + 1 :]))
            x = walk(x, axis, self._along(layer, place), torch())
            shape[place] = axis.target
        return x.reshape(shape)

    def _along(self, layer: int, place: int) -> Callable[[Any, Axis], Any]:
        return lambda x, leaf: self.uses[layer, place, leaf](x)


class Materialiser:
    """Makes weights of operators.

    Args:
        stacks: of the plan. dims: (source size, target size) by dim. chains: by stack its chain, of those in layers.
        aligned: the source. starts: the method's operators.
        base: the method's own result by tensor name, float32.
        learnable: names of the tensors that can be trained.
        mix: mix blocks.

    Attributes:
        operators: what is trained.
        names: of the tensors that follow from it.
        kept: names of those that hold more than operators make of the source, which stays as it is.

    Raises:
        ResampleError: nothing can be learned, or no blocks can be mixed.
    """

    def __init__(
        self,
        stacks: tuple[StackPlan, ...],
        dims: Mapping[str, tuple[int, int]],
        chains: Mapping[str, str],
        aligned: Aligned,
        starts: MethodStarts,
        base: Mapping[str, Array],
        learnable: Mapping[str, tuple[int, ...]],
        *,
        mix: bool,
    ) -> None:
        self._dims, self._aligned, self._starts = dims, aligned, starts
        self.operators = Operators()
        fitting = [stack for stack in stacks if _fits(stack, learnable)]
        self._rows = _rows(fitting)
        self._stacks = {
            stack.task.stack: made for stack in fitting if (made := self._learned(stack)) is not None
        }  # fmt: skip
        self._mixings = self._find_mixings(chains) if mix else []
        for mixing in self._mixings:
            self.operators.mixes[mixing.chain] = torch().nn.Parameter(torch().eye(mixing.count))
        if not self._stacks or not self.operators.named():
            raise ResampleError(
                f"--learn: nothing can be trained here: method '{starts.method}' makes no tensor of the source's by an "
                "operator that changes a size; leave --learn out"
            )
        self._rest: dict[str, Any] = {}
        self.kept = self._settle(base)
        self.names = tuple(self._rest)

    def weights(self) -> dict[str, Any]:
        """Every learned tensor by name, as a torch tensor that gradients go through."""
        return {name: made + self._rest[name] for name, made in self._tensors().items()}

    def _tensors(self) -> dict[str, Any]:
        made = {stack: learned.made() for stack, learned in self._stacks.items()}
        for mixing in self._mixings:
            made |= mixing.apply(self.operators.mixes[mixing.chain], made)
        return {
            name: made[stack][layer]
            for stack, learned in self._stacks.items()
            for layer, name in enumerate(learned.plan.targets)
        }

    def _find_mixings(self, chains: Mapping[str, str]) -> list[Mixing]:
        hidden = {dim: self._dims[dim][1] for learned in self._stacks.values() for dim in _streams(learned.plan.task)}
        found = find_mixings([learned.plan for learned in self._stacks.values()], chains, hidden)
        if not found:
            raise ResampleError(
                "--learn-mix: no chain of layers has two blocks of hidden x hidden to mix (the sides of a matrix are "
                "whole multiples of hidden): leave it out"
            )
        return found

    def _learned(self, stack: StackPlan) -> _Learned | None:
        """How a stack is made; None where it is made of nothing that changes."""
        task = stack.task
        wholes = [self._aligned.whole(name).astype(np.float32) for name in stack.sources]
        origins: dict[tuple[int, Axis], Axis] = {}
        axes = tuple(self._whole_axis(stack, place, origins) for place in range(len(task.axes)))
        if any(array.shape != tuple(axis.source for axis in axes) for array in wholes):
            return None  # an alignment has cut it in a way that is no operator
        depth = self._starts.depth(task) * stack.gain
        if not depth.any():
            return None
        learned = [mixed(axis) for axis in axes]
        uses = {
            (layer, place, leaf): self._use(stack, layer, place, leaf, origins[place, leaf])
            for place, axis in enumerate(learned)
            for leaf in _changed_leaves(axis)
            for layer in range(len(wholes))
        }
        library = torch()
        weights = library.from_numpy(depth.astype(np.float32))
        if task.layers[0] != task.layers[1]:
            weights = self.operators.depths[task.stack] = library.nn.Parameter(weights)
        layers = [library.from_numpy(self._unmixed(task, axes, array)) for array in wholes]
        return _Learned(stack, tuple(learned), layers, weights, uses, self._gain(task))

    def _whole_axis(self, stack: StackPlan, place: int, origins: dict[tuple[int, Axis], Axis]) -> Axis:
        """An axis before anything was cut; ``origins`` takes the leaves as the work order has them, by learned ones."""

        def whole(leaf: Axis) -> Axis:
            size = self._dims.get(leaf.dim, (leaf.source, leaf.target))[0]
            found = leaf
            if leaf.source == leaf.target != size:
                cut = self._aligned.cut(stack.sources[0], place, leaf.dim)
                found = leaf if cut is None else replace(leaf, source=size)
            origins[place, found] = leaf
            return found

        return mapped(stack.task.axes[place], whole)

    def _use(self, stack: StackPlan, layer: int, place: int, leaf: Axis, origin: Axis) -> Use:
        task = stack.task
        if origin.source != origin.target:
            start = Start.of(self._starts.leaf(task, origin, task.directions[place]), leaf.source)
        else:
            cut = self._aligned.cut(stack.sources[layer], place, leaf.dim)
            assert cut is not None
            start = Start.of(cut, leaf.source)
        if leaf.role == Role.HIDDEN:
            return self.operators.matrix(leaf.dim, start)
        return self.operators.gate(leaf.dim, start, layer, self._rows[leaf.dim])

    def _unmixed(self, task: StackTask, axes: tuple[Axis, ...], array: Array) -> Array:
        """A source tensor with what is looked up at its new size."""
        shape = list(array.shape)
        for place, axis in enumerate(map(unmixed, axes)):
            if changes(axis):

                def leaf(y: Array, part: Axis, place: int = place) -> Array:
                    if part.role == Role.VOCAB:
                        return np.asarray(select_vocabulary(y, part.target, np))
                    matrix = self._starts.leaf(task, part, task.directions[place])
                    return np.asarray(np.matmul(matrix.astype(np.float32), y))

                flat = array.reshape(prod(shape[:place]), shape[place], prod(shape[place + 1 :]))
                shape[place] = axis.target
                array = np.asarray(walk(flat, axis, leaf, np)).reshape(shape)
        return np.array(array, dtype=np.float32)

    def _gain(self, task: StackTask) -> Any:
        """What the method multiplies the axes with, broadcasting over ``[layers, *shape]``."""
        total: Array | None = None
        for place, axis in enumerate(task.axes):
            if axis.role == Role.VOCAB:
                continue
            direction = task.directions[place]

            def leaf(y: Array, part: Axis, direction: Any = direction) -> Array:
                return np.asarray(np.matmul(self._starts.leaf(task, part, direction), y))

            def apply(rows: Array, axis: Axis = axis, leaf: Any = leaf) -> Array:
                return np.asarray(walk(rows[:, :, None], axis, leaf, np))[:, :, 0]

            gain = self._starts.gains(task, axis, direction, apply)
            if gain is not None:
                shaped = gain.reshape([-1 if n == place else 1 for n in range(len(task.axes))])
                total = shaped if total is None else total * shaped
        return None if total is None else torch().from_numpy(total.astype(np.float32)[None])

    def _settle(self, base: Mapping[str, Array]) -> tuple[str, ...]:
        """Find what the method's result holds besides; the names of tensors in which that is more than rounding."""
        library = torch()
        with library.no_grad():
            for stack in self._stacks.values():
                found = stack.made()
                wanted = np.stack([base[name].astype(np.float32) for name in stack.plan.targets])
                _rescale(stack, found, library.from_numpy(wanted))
            kept: list[str] = []
            for name, made in self._tensors().items():
                wanted = library.from_numpy(np.array(base[name], dtype=np.float32))
                self._rest[name] = wanted - made
                largest = max(float(wanted.abs().max()), 1e-30)
                if float(self._rest[name].abs().max()) > _KEPT * largest:
                    kept.append(name)
        return tuple(kept)


def _rescale(stack: _Learned, found: Any, wanted: Any) -> None:
    """Take up one factor for the whole stack (conventions that set its spread), if that is all that is missing."""
    squares = float((found * found).sum())
    factor = float((found * wanted).sum()) / squares if squares > 0 else 1.0
    largest = float(wanted.abs().max())
    left = float((wanted - factor * found).abs().max())
    if abs(factor - 1.0) > _SCALED and left <= _SCALED * largest:
        stack.depth.mul_(factor)


def _fits(stack: StackPlan, learnable: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether all tensors of a stack can be trained as they are planned."""
    made = stack.closed_form is None and stack.twin_of is None and not stack.positive
    return made and all(learnable.get(name) == stack.task.target_shape for name in stack.targets)


def _rows(stacks: list[StackPlan]) -> dict[str, int]:
    """By dim, how many layers its gates tell apart: as many as all tensors have that carry it, else 1."""
    found: dict[str, set[int]] = {}

    def look(axis: Axis, count: int) -> None:
        found.setdefault(axis.dim, set()).add(count)
        for part in axis.parts:
            look(part, count)

    for stack in stacks:
        for axis in stack.task.axes:
            look(axis, len(stack.sources))
    return {dim: counts.pop() if len(counts) == 1 else 1 for dim, counts in found.items()}


def _streams(task: StackTask) -> set[str]:
    """Ids of the axes of a stack that are a stream."""
    return {axis.dim for axis in task.axes if axis.role == Role.HIDDEN and not axis.parts}


def _changed_leaves(axis: Axis) -> list[Axis]:
    if not axis.parts:
        return [axis] if is_learned(axis) else []
    return list(dict.fromkeys(leaf for part in axis.parts for leaf in _changed_leaves(part)))

"""Where learned operators start: what a method does along an axis and over layers, read off the method itself.

A method is asked for what it makes of small stacks whose values are known. It may add noise, take means off and rescale
whole stacks besides; what is linear along one axis is told apart from that by mirrored inputs, ±1 on two rows each (so
that every mean is 0), and by half the difference of the results for x and -x (in which what is added cancels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Direction
from bot_onnx._surgery.picked import picked

Matrix = NDArray[np.float64]

_PROBES = 4  # random vectors from which the gains of an axis are solved


@dataclass(slots=True)
class MethodStarts:
    """The operators of one method with its options.

    Attributes:
        method, options, seed: of the run.
    """

    method: str
    options: MethodOptions
    seed: int
    _leaves: dict[tuple[Axis, str, Direction], Matrix] = field(default_factory=dict)

    def leaf(self, task: StackTask, leaf: Axis, direction: Direction) -> Matrix:
        """What a leaf axis of a stack takes, ``[target, source]``, without what the axis around it is multiplied by."""
        key = replace(leaf, score=False, head_dim=None), task.kind, direction
        if key not in self._leaves:
            eye = np.eye(leaf.source)
            plain = replace(task, before_tied_head=False)  # its gain is the axis', and there are others of this kind
            made = self._odd(plain, key[0], direction, np.concatenate([eye, -eye]))
            self._leaves[key] = np.ascontiguousarray((made[: leaf.source] - made[leaf.source :]).T / 2)
        return self._leaves[key]

    def gains(
        self, task: StackTask, axis: Axis, direction: Direction, apply: Callable[[Matrix], Matrix]
    ) -> Matrix | None:
        """What an axis is multiplied by, index by index, besides its leaves' operators: ``[target]``; None for 1.

        Args:
            task: of the stack. axis, direction: of one of its axes, at the sizes that the method sees.
            apply: the leaves' operators along it, ``[rows, source]`` to ``[rows, target]``.
        """
        rows = np.random.default_rng(0).standard_normal((_PROBES, axis.source))
        made = self._odd(task, axis, direction, np.concatenate([rows, -rows]))
        wanted, found = (made[:_PROBES] - made[_PROBES:]) / 2, apply(rows)
        squares = np.square(found).sum(axis=0)
        empty = squares <= 1e-24 * max(float(squares.max(initial=0.0)), 1e-300)
        gain = np.where(empty, 1.0, (wanted * found).sum(axis=0) / np.where(empty, 1.0, squares))
        return None if np.allclose(gain, 1.0, rtol=1e-9, atol=0) else gain

    def depth(self, task: StackTask) -> Matrix:
        """How much of every source layer a target layer is made of, ``[target layers, source layers]``."""
        count = task.layers[0]
        eye = np.eye(count)
        unit = Axis("leaf", 2 * count, 2 * count, "count")
        small = replace(task, axes=(unit,), directions=("out",))
        made = self._resampled(small, [np.concatenate([row, -row]) for row in eye])
        weights: Matrix = (made[:, :count] - made[:, count:]) / 2
        return weights

    def _odd(self, task: StackTask, axis: Axis, direction: Direction, x: Matrix) -> Matrix:
        """What one layer ``[rows, source]`` of a stack that has this axis, and one that stays, becomes."""
        rows = Axis("leaf", len(x), len(x), "count")
        one = (1, 1)
        small = replace(
            task, axes=(rows, axis), directions=("out", direction), layers=one, total_layers=one, picks=(), gain=1.0,
            offset=0.0, residual="none",
        )  # fmt: skip
        layer: Matrix = self._resampled(small, [x])[0]
        return layer

    def _resampled(self, task: StackTask, layers: list[Matrix]) -> Matrix:
        """The part of the method's result that turns its sign with its input, layers first."""

        def made(sign: float) -> Matrix:
            readers = [partial(np.multiply, layer, sign) for layer in layers]
            chosen, given = picked(task, readers)
            out = get_method(self.method).resample(chosen, given, self.options, xp=np, seed=self.seed)
            return np.stack([np.array(layer, dtype=np.float64) for layer in out])

        half: Matrix = (made(1.0) - made(-1.0)) / 2
        return half

"""Resampling of a tensor's own axes by linear operators, leaf by leaf, with the gains of a convention.

The law (W one layer's tensor, rho = n_source / n_target of an axis, R its operator of unit row sums):

    W' = (rho_o^{e_o} R_o) W (rho_i^{e_i} R~_i)ᵀ

The exponents are those of :mod:`bot_onnx._resample.amplitude`. Without a convention every leaf axis decides for itself,
``ortho`` where it shrinks and ``value`` where it grows; every tensor that carries a dim so takes the same side.
Positions and vocabulary are looked up rather than summed over: their axes take e = 0 in all conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from bot_onnx._resample.amplitude import Convention, chosen_convention, leaf_form
from bot_onnx._resample.arrays import Array, Floats, Namespace, dtype_name
from bot_onnx._resample.axes import HEAD_DIM_ROLES, changes, mark_scores, walk
from bot_onnx._resample.cuda import engine_of
from bot_onnx._resample.filters import COPIES, Matrix
from bot_onnx._resample.fused import separable
from bot_onnx._resample.growth import shares, uneven_score_gain
from bot_onnx._resample.neighbours import copy_along_all, neighbours_gain
from bot_onnx._resample.operators import Filters, LeafOperator, select_vocabulary
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Direction, Role

#: What is added to the result of a leaf that grows: called with the operator and its argument.
Addition = Callable[[LeafOperator, Array], Array | None]
#: The parts that the copies of a leaf's indices have of a contraction, ``[leaf.target]``.
Shares = Callable[[Axis], Matrix]


@dataclass(frozen=True, slots=True)
class WidthTransform:
    """All the axes of one task's tensors, without the layer axis.

    Attributes:
        task: the work order.
        filters: the operators.
        convention: see the module; None decides by leaf axis.
        head_dim_correction: multiply what makes queries and keys by (d_s/d_t)^¼ under ``value``: a score q·k grows
            with head_dim, its divisor √d only half as fast.
        shares: of copies, in contracted axes that grow by them; None: equal ones.
    """

    task: StackTask
    filters: Filters
    convention: Convention | None = None
    head_dim_correction: bool = True
    shares: Shares | None = None

    @property
    def is_identity(self) -> bool:
        """No axis changes, so :meth:`apply` returns its argument."""
        return not any(changes(axis) for axis in self.task.axes)

    def apply(self, x: Array, xp: Namespace, addition: Addition | None = None) -> Array:
        """Tensor of ``task.source_shape`` to ``task.target_shape``; ``addition`` comes to what grows."""
        plain = addition is None and self.shares is None
        together = self._at_once(x) if plain else None
        if together is not None:
            return together
        shape = list(self.task.source_shape)
        for index in self._order():
            axis, direction = mark_scores(self.task.axes[index]), self.task.directions[index]
            if not changes(axis) and self._score_gain(axis) == 1.0:
                continue
            x = xp.reshape(x, (prod(shape[:index]), shape[index], prod(shape[index + 1 :])))
            x = walk(x, axis, self._leaf_function(direction, xp, addition), xp, self._corrected)
            shape[index] = axis.target
        return xp.reshape(x, tuple(shape))

    def _order(self) -> list[int]:
        """Shrink first; among equals the last axis, the costliest a number, when the tensor is at its smallest."""
        ratios = [axis.target / axis.source for axis in self.task.axes]
        return sorted(range(len(ratios)), key=lambda i: (ratios[i], i if ratios[i] < 1 else -i))

    def _at_once(self, x: Array) -> Array | None:
        """The whole transform in one pass, where there is such a one: a device's, or copies on the CPU."""
        made = self._two_at_once(x)
        return self._copied_at_once(x) if made is None and isinstance(x, np.ndarray) else made

    def _copied_at_once(self, x: Floats) -> Floats | None:
        """The whole transform in one pass on the CPU, where two axes or more are leaves that grow by copies of all.

        None: elsewhere.
        """
        blocks, gains = [1] * x.ndim, []
        for index in self._order():
            axis, operator = mark_scores(self.task.axes[index]), self._leaf_operator(index)
            if not changes(axis) and self._score_gain(axis) == 1.0:
                continue
            copies = operator is not None and operator.is_haar and axis.target > axis.source
            if operator is None or not copies or self._score_gain(axis) != 1.0:
                return None
            blocks[index] = axis.target // axis.source
            gains.append(neighbours_gain(axis.source, axis.target, operator.form))
        if sum(block > 1 for block in blocks) < 2:
            return None
        grown: Floats = np.empty(self.task.target_shape, dtype=x.dtype)
        copy_along_all(x, blocks, [gain for gain in gains if gain != 1.0], grown)
        return grown

    def _two_at_once(self, x: Array) -> Array | None:
        """The whole transform in one pass on a CUDA device, where just the last axis and one other change, both leaves.

        None: elsewhere, or where one of the operators is no narrow band.
        """
        engine, axes = engine_of(x), [mark_scores(axis) for axis in self.task.axes]
        moving = [i for i, axis in enumerate(axes) if changes(axis) or self._score_gain(axis) != 1.0]
        if engine is None or len(moving) != 2 or moving[1] != len(axes) - 1:
            return None
        operators, gain = [self._leaf_operator(i) for i in moving], 1.0
        for operator, i in zip(operators, moving, strict=True):
            if operator is None or not operator.is_filter:
                return None
            gain *= self._score_gain(axes[i])
        shape, first = self.task.source_shape, moving[0]
        view = x if x.flags.c_contiguous else x.copy()
        view = view.reshape(prod(shape[:first]), shape[first], prod(shape[first + 1 : -1]), shape[-1])
        y = separable(view, operators[0], operators[1], engine, gain)
        return None if y is None else y.reshape(self.task.target_shape)

    def _leaf_operator(self, index: int) -> LeafOperator | None:
        """The operator of an axis that is a leaf and is not selected from."""
        axis = self.task.axes[index]
        if axis.kind != "leaf" or axis.role == Role.VOCAB or axis.source == axis.target:
            return None
        convention = chosen_convention(self.convention, axis.source, axis.target)
        return self.filters.of_axis(axis, leaf_form(self.task.kind, self.task.directions[index], axis.role, convention))

    def _leaf_function(
        self, direction: Direction, xp: Namespace, addition: Addition | None
    ) -> Callable[[Array, Axis], Array]:
        def leaf(x: Array, axis: Axis) -> Array:
            if axis.role == Role.VOCAB:
                return select_vocabulary(x, axis.target, xp)
            convention = chosen_convention(self.convention, axis.source, axis.target)
            form = leaf_form(self.task.kind, direction, axis.role, convention)
            operator = self.filters.of_axis(axis, form)
            y = operator.apply(x, xp)
            if operator.wavelet == COPIES and axis.score and axis.role in HEAD_DIM_ROLES and self.head_dim_correction:
                gain = uneven_score_gain(axis)
                y = y if gain is None else y * xp.asarray(gain.astype(dtype_name(y)))[None, :, None]
            if operator.wavelet == COPIES and form == "dual" and self.shares is not None and axis.target > axis.source:
                gain = self.shares(axis) / shares(COPIES, axis.source, axis.target)
                y = y * xp.asarray(gain.astype(dtype_name(y)))[None, :, None]
            added = addition(operator, x) if addition is not None and axis.target > axis.source else None
            return y if added is None else y + xp.asarray(added)

        return leaf

    def _corrected(self, x: Array, axis: Axis) -> Array:
        gain = self._score_gain(axis)
        return x if gain == 1.0 else x * gain

    def _score_gain(self, axis: Axis) -> float:
        if not (self.head_dim_correction and axis.score and axis.head_dim):  # leaves are marked without their sizes
            return 1.0
        source, target = axis.head_dim
        if chosen_convention(self.convention, source, target) != "value":
            return 1.0
        return float((source / target) ** 0.25)

"""Resampling of a tensor's own axes: composite axes part by part, gains by convention, noise in the detail bands.

The law (W one layer's tensor, rho = n_source / n_target of an axis, R its operator of unit row sums):

    W' = (rho_o^{e_o} R_o) W (rho_i^{e_i} R~_i)ᵀ

``value`` keeps the function: e = 0 everywhere but e_i = 1 with the dual R~ on the contracted axis of a matrix or
kernel. ``ortho`` is the orthonormal transform: e = ½ on every axis of width, R~ = R. ``auto`` decides by leaf axis:
``ortho`` where it shrinks, ``value`` where it grows; every tensor that carries a dim so takes the same side.
Positions and vocabulary are looked up rather than summed over: their axes take e = 0 in both conventions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

import numpy as np

from bot_onnx.errors import ResampleError
from bot_onnx.graph.types import Direction, TensorKind
from bot_onnx.resample.arrays import Array, Floats, Namespace, dtype_name, normal, uniform
from bot_onnx.resample.filters import Form, Matrix, dct_resize, grow_level, synthesis
from bot_onnx.resample.operators import LeafOperator, select_vocabulary
from bot_onnx.stack.types import Axis, StackTask

Convention = Literal["ortho", "value"]
Details = Literal["zero", "gaussian", "uniform"]

FIXED_ROLES = frozenset({"count", "io", "spatial"})
LOOKED_UP_ROLES = frozenset({"positions", "vocab"})


@dataclass(frozen=True, slots=True)
class Noise:
    """What fills the detail bands: draws of standard deviation ``sigma`` from one target layer's own stream."""

    rng: np.random.Generator
    distribution: Literal["gaussian", "uniform"]
    sigma: float

    def draw(self, shape: tuple[int, ...], dtype: str) -> Floats:
        """Array of ``shape``; the uniform one spans ±√3·sigma, which has the same standard deviation."""
        if self.distribution == "gaussian":
            draws = normal(self.rng, shape, dtype)
            draws *= self.sigma
            return draws
        draws = uniform(self.rng, shape, dtype)
        draws -= 0.5
        draws *= 2.0 * sqrt(3.0) * self.sigma
        return draws


def changes(axis: Axis) -> bool:
    """Whether any leaf of the axis changes size (12·64 to 6·128 does, though both are 768)."""
    return any(changes(part) for part in axis.parts) if axis.parts else axis.source != axis.target


def grows(axis: Axis) -> bool:
    """Whether any leaf of the axis grows."""
    return any(grows(part) for part in axis.parts) if axis.parts else axis.source < axis.target


def chosen_convention(convention: Convention | None, source: int, target: int) -> Convention:
    """The convention of one size change: as asked, else ``ortho`` for shrinking and ``value`` for growing."""
    return convention or ("ortho" if target < source else "value")


def leaf_form(kind: TensorKind, direction: Direction, role: str, convention: Convention) -> Form:
    """Which form of its operator a leaf axis takes: the exponents of the module's law."""
    if role in LOOKED_UP_ROLES:
        return "unit"
    if convention == "ortho":
        return "sqrt"
    return "dual" if direction == "in" and kind in ("matrix", "kernel", "other") else "unit"


def check_axes(task: StackTask) -> None:
    """Refuse what no method may do to an axis.

    Raises:
        ResampleError: a count, io or spatial axis changes size, or the parts do not make up their axis.
    """
    for index, axis in enumerate(task.axes):
        _check_axis(axis, f"stack {task.stack} ({task.name}), axis {index}")


def _check_axis(axis: Axis, place: str) -> None:
    if axis.role in FIXED_ROLES and changes(axis):
        raise ResampleError(
            f"{place}: a dim of role '{axis.role}' never changes size, but {axis.source} -> {axis.target} is asked; "
            "leave it out of the spec"
        )
    if axis.source < 1 or axis.target < 1:
        raise ResampleError(f"{place}: sizes start at 1, but {axis.source} -> {axis.target} is asked")
    if axis.kind != "leaf":
        sizes = [(part.source, part.target) for part in axis.parts]
        combine = prod if axis.kind == "product" else sum
        if (combine(s for s, _ in sizes), combine(t for _, t in sizes)) != (axis.source, axis.target):
            raise ResampleError(
                f"{place}: {axis.kind} of the parts {sizes} does not give {axis.source} -> {axis.target}; "
                "resize its parts so that they do"
            )
    for part in axis.parts:
        _check_axis(part, place)


@dataclass(frozen=True, slots=True)
class WidthTransform:
    """All the axes of one task's tensors, without the layer axis.

    Attributes:
        task: the work order.
        wavelet: name of a discrete wavelet.
        convention: see the module; None decides by leaf axis.
        head_dim_correction: multiply what makes queries and keys by (d_s/d_t)^¼ under ``value``: a score q·k grows
            with head_dim, its divisor √d only half as fast.
    """

    task: StackTask
    wavelet: str
    convention: Convention | None = None
    head_dim_correction: bool = True

    @property
    def is_identity(self) -> bool:
        """No axis changes, so :meth:`apply` returns its argument."""
        return not any(changes(axis) for axis in self.task.axes)

    def apply(self, x: Array, xp: Namespace, noise: Noise | None = None) -> Array:
        """Tensor of ``task.source_shape`` to ``task.target_shape``; ``noise`` fills the bands of growing axes."""
        shape = list(self.task.source_shape)
        # Shrink first; among equals the slow axes first, whose slices are the cheapest to add.
        order = sorted(range(len(shape)), key=lambda i: self.task.axes[i].target / shape[i])
        for index in order:
            axis = self.task.axes[index]
            if not changes(axis) and self._score_gain(axis) == 1.0:
                continue
            x = xp.reshape(x, (prod(shape[:index]), shape[index], prod(shape[index + 1 :])))
            x = self._walk(x, axis, self.task.directions[index], xp, noise)
            shape[index] = axis.target
        return xp.reshape(x, tuple(shape))

    def _walk(self, x: Array, axis: Axis, direction: Direction, xp: Namespace, noise: Noise | None) -> Array:
        if axis.kind == "leaf":
            x = self._leaf(x, axis, direction, xp, noise)
        elif axis.kind == "product":
            x = self._product(x, axis, direction, xp, noise)
        else:
            x = self._concat(x, axis, direction, xp, noise)
        gain = self._score_gain(axis)
        return x if gain == 1.0 else x * gain

    def _product(self, x: Array, axis: Axis, direction: Direction, xp: Namespace, noise: Noise | None) -> Array:
        """Kronecker product of the parts' operators, factor by factor: (A ⊗ B) vec X = vec(A X Bᵀ)."""
        pre, _, post = x.shape
        for j, part in enumerate(axis.parts):
            if not changes(part):
                continue
            before = prod(p.target for p in axis.parts[:j])
            after = prod(p.source for p in axis.parts[j + 1 :])
            x = xp.reshape(x, (pre * before, part.source, after * post))
            x = self._walk(x, part, direction, xp, noise)
        return xp.reshape(x, (pre, axis.target, post))

    def _concat(self, x: Array, axis: Axis, direction: Direction, xp: Namespace, noise: Noise | None) -> Array:
        pieces, start = [], 0
        for part in axis.parts:
            pieces.append(self._walk(x[:, start : start + part.source, :], part, direction, xp, noise))
            start += part.source
        return xp.concat(pieces, axis=1)

    def _leaf(self, x: Array, axis: Axis, direction: Direction, xp: Namespace, noise: Noise | None) -> Array:
        if axis.source == axis.target:
            return x
        if axis.role == "vocab":
            return select_vocabulary(x, axis.target, xp)
        convention = chosen_convention(self.convention, axis.source, axis.target)
        operator = LeafOperator(
            self.wavelet, axis.source, axis.target, leaf_form(self.task.kind, direction, axis.role, convention)
        )
        y = operator.apply(x, xp)
        if noise is None or axis.target < axis.source:
            return y
        details = detail_bands(operator, x.shape[0], x.shape[2], noise, dtype_name(x))
        return y if details is None else y + xp.asarray(details)

    def _score_gain(self, axis: Axis) -> float:
        if not (self.head_dim_correction and axis.score and axis.head_dim):
            return 1.0
        source, target = axis.head_dim
        if chosen_convention(self.convention, source, target) == "ortho":
            return 1.0
        return float((source / target) ** 0.25)


def detail_bands(operator: LeafOperator, pre: int, post: int, noise: Noise, dtype: str) -> Floats | None:
    """What noise in the detail bands adds to a grown axis, ``[pre, target, post]``; None where no level is inverted.

    The inverse DWT is linear, so this is its value with the approximation zero. It takes the gain that its operator
    has over the orthonormal synthesis, hence sigma is that of the approximation in PyWavelets' own scaling.
    """
    level = grow_level(operator.source, operator.target)
    if level == 0:
        return None
    bank = _synthesis_bank(operator)
    field: Floats = np.zeros((pre, operator.source, post), dtype=dtype)
    for step in range(level):
        low, high = (band.astype(dtype) for band in bank[step])
        field = low @ field + high @ noise.draw(field.shape, dtype)
    if field.shape[1] != operator.target:
        field = dct_resize(field.shape[1], operator.target).astype(dtype) @ field
    ratio = operator.source / operator.target
    gain = 2.0 ** (level / 2) * {"unit": 1.0, "sqrt": ratio**0.5, "dual": ratio}[operator.form]
    field *= gain
    return field


def _synthesis_bank(operator: LeafOperator) -> list[tuple[Matrix, Matrix]]:
    """(low, high) synthesis matrices of each level; of the dual filters where the operator is the dual one."""
    name = operator.wavelet
    if operator.form == "dual":
        name = dual_name(name)
    size, bank = operator.source, []
    for _ in range(grow_level(operator.source, operator.target)):
        bank.append((synthesis(name, size), synthesis(name, size, "high")))
        size *= 2
    return bank


def dual_name(wavelet: str) -> str:
    """Name of the wavelet with analysis and synthesis exchanged (its own where the bank is orthogonal)."""
    if wavelet.startswith("rbio"):
        return "bior" + wavelet[4:]
    return "rbio" + wavelet[4:] if wavelet.startswith("bior") else wavelet

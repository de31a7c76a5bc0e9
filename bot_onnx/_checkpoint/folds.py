"""What an exporter computed from several parameters, and parameters that compute the same.

A batch norm behind a convolution is multiplied into it: ``y = s (W x + c - m) + b`` with ``s = g / sqrt(v + eps)`` is
the convolution ``(s W) x + s (c - m) + b``. Going home, that convolution keeps its weight, its bias goes where the
framework has one, and the norm is an identity: ``g = 1, m = 0, v = 1 - eps``. A weight-normalised weight
``g v / norm(v)`` goes home as ``v = W, g = norm(W)``. A checkpoint whose values the graph holds proves which parameters
they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bot_onnx._checkpoint.sites import join, owner
from bot_onnx._checkpoint.types import Array, Checkpoint, Fold, OpenAssignment, Read, Shape
from bot_onnx._ops import is_affine, linear_of
from bot_onnx.errors import CheckpointError

_CLOSE = 1e-4  #: of the largest value: folded in single precision
_LARGEST_EPSILON = 0.1
_STATISTICS = ("running_mean", "running_var")
#: How PyTorch calls magnitude and direction of a weight-normalised weight, in its two spellings.
_WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear op whose weight and bias are initializers.

    Attributes:
        weight, bias: their names; no bias: None.
        axis: of the weight that counts outputs.
        perm: order of the weight's axes in the framework's tensor; None: as they are.
    """

    weight: str
    bias: str | None
    axis: int
    perm: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class FoldedNorm:
    """A batch norm in a linear op.

    Attributes:
        linear: the op.
        weight, bias: keys of the linear module; no bias: None.
        norm: path of the batch norm.
        affine: whether the norm has a scale and a bias.
        epsilon: of the norm.
    """

    linear: Linear
    weight: str
    bias: str | None
    norm: str
    affine: bool
    epsilon: float

    @property
    def tensors(self) -> tuple[str, ...]:
        """The initializers."""
        return (self.linear.weight,) if self.linear.bias is None else (self.linear.weight, self.linear.bias)

    @property
    def keys(self) -> tuple[str, ...]:
        """The entries."""
        leaves = (*_STATISTICS, *(("weight", "bias") if self.affine else ()))
        own = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return (*own, *(join(self.norm, leaf) for leaf in leaves))

    def outward(self, read: Read) -> dict[str, Array]:
        """The linear module with the folded values, and an identity for the norm."""
        matrix = read(self.linear.weight)
        count = matrix.shape[self.linear.axis]
        zeros = np.zeros(count, matrix.dtype)
        bias = zeros if self.linear.bias is None else read(self.linear.bias)
        mean = zeros
        found = {self.weight: matrix if self.linear.perm is None else matrix.transpose(self.linear.perm)}
        if self.bias is not None:
            found[self.bias], bias = bias, zeros
        if self.affine:
            found |= {join(self.norm, "weight"): np.ones(count, matrix.dtype), join(self.norm, "bias"): bias}
        else:
            mean = -bias
        variance = np.full(count, 1 - self.epsilon, matrix.dtype)
        return found | dict(zip((join(self.norm, leaf) for leaf in _STATISTICS), (mean, variance), strict=True))

    def inward(self, read: Read, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Fold the norm in again."""
        matrix = read(self.weight)
        matrix = matrix if self.linear.perm is None else matrix.transpose(np.argsort(self.linear.perm))
        if matrix.shape != shapes[self.linear.weight]:
            raise CheckpointError(
                f"{self.weight!r} has the shape {list(read(self.weight).shape)}, but tensor {self.linear.weight!r} "
                f"{list(shapes[self.linear.weight])}: the checkpoint belongs to a network of other sizes"
            )
        scale, shift = _scale_and_shift(read, self.norm, self.affine, self.epsilon)
        if self.bias is not None:
            shift = shift + scale * read(self.bias)
        around = [1] * matrix.ndim
        around[self.linear.axis] = -1
        found = {self.linear.weight: (matrix * scale.reshape(around)).astype(matrix.dtype)}
        if self.linear.bias is None:
            if np.any(shift):
                raise CheckpointError(f"tensor {self.linear.weight!r} has no bias to fold {self.norm!r} into")
            return found
        return found | {self.linear.bias: shift.astype(matrix.dtype)}


@dataclass(frozen=True, slots=True)
class NormalisedWeight:
    """A weight-normalised weight: ``magnitude * direction / |direction|``, the norm over the axes that magnitude lacks.

    Attributes:
        tensor: the initializer.
        magnitude, direction: keys.
        axes: of the weight, which the norm is taken over.
    """

    tensor: str
    magnitude: str
    direction: str
    axes: tuple[int, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The initializer."""
        return (self.tensor,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The entries."""
        return self.magnitude, self.direction

    def outward(self, read: Read) -> dict[str, Array]:
        """The weight as its own direction."""
        values = read(self.tensor)
        return {self.magnitude: self._length(values), self.direction: values}

    def inward(self, read: Read, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Normalise."""
        direction = read(self.direction)
        if direction.shape != shapes[self.tensor]:
            raise CheckpointError(
                f"{self.direction!r} has the shape {list(direction.shape)}, but tensor {self.tensor!r} "
                f"{list(shapes[self.tensor])}: the checkpoint belongs to a network of other sizes"
            )
        return {self.tensor: read(self.magnitude) * (direction / self._length(direction))}

    def _length(self, values: Array) -> Array:
        squares = np.sum(values.astype(np.float64) ** 2, axis=self.axes, keepdims=True)
        length: Array = np.sqrt(squares).astype(values.dtype)
        return length


def linear_ops(graph: ir.Graph) -> list[Linear]:
    """The linear ops of a graph that a norm may have been folded into, in its order."""
    found: list[Linear] = []
    for node in graph:
        known = linear_of(node)
        if known is None or not is_affine(node):
            continue
        transposed = known.form == "kernel" and known.contracted == 0
        if transposed and node.attributes.get_int("group", 1) != 1:
            continue
        weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        if weight is None or weight.const_value is None or (bias is not None and bias.const_value is None):
            continue
        turned = known.flips is not None and not node.attributes.get_int(known.flips[1], 0)
        axis = 1 if turned or transposed else 0
        found.append(Linear(weight.name or "", None if bias is None else bias.name, axis, (1, 0) if turned else None))
    return found


def find_folds(assignment: OpenAssignment, linears: Sequence[Linear], like: Checkpoint, read: Read) -> None:
    """Take lost weights apart whose parameters the checkpoint proves: it holds the values that were folded."""
    norms = [
        owner(key)
        for key in like.shapes
        if key.endswith(".running_var") and join(owner(key), "running_mean") in like.shapes
    ]
    for linear in linears:
        if linear.weight not in assignment.lost:
            continue
        folded = _normalised(assignment, linear, like, read) or _folded(assignment, linear, norms, like, read)
        if folded is not None:
            assignment.confirm_fold(folded)


def _normalised(assignment: OpenAssignment, linear: Linear, like: Checkpoint, read: Read) -> Fold | None:
    shape, taken = assignment.shapes[linear.weight], assignment.keys()
    for first, second in _WEIGHT_NORM:
        for key in like.shapes:
            module = key.removesuffix(f".{second}")
            magnitude = join(module, first)
            if module == key or key in taken or like.shapes[key] != shape or magnitude not in like.shapes:
                continue
            axes = tuple(axis for axis, size in enumerate(like.shapes[magnitude]) if size == 1)
            fold = NormalisedWeight(linear.weight, magnitude, key, axes)
            if _close(fold.inward(like.read, {linear.weight: shape})[linear.weight], read(linear.weight)):
                return fold
    return None


def _folded(
    assignment: OpenAssignment, linear: Linear, norms: Sequence[str], like: Checkpoint, read: Read
) -> Fold | None:
    values = read(linear.weight)
    outward = values if linear.perm is None else values.transpose(linear.perm)
    axis = linear.axis if linear.perm is None else linear.perm.index(linear.axis)
    taken = assignment.keys()
    for key, shape in like.shapes.items():
        if shape != outward.shape or key in taken or not key.endswith("weight"):
            continue
        ratio = _ratio(outward, like.read(key), axis)
        if ratio is None:
            continue
        bias = f"{key.removesuffix('weight')}bias"
        for norm in norms:
            if like.shapes[f"{norm}.running_var"] != ratio.shape or f"{norm}.running_var" in taken:
                continue
            epsilon = _epsilon(ratio, norm, like)
            if epsilon is None:
                continue
            affine = f"{norm}.weight" in like.shapes
            fold = FoldedNorm(linear, key, bias if bias in like.shapes else None, norm, affine, epsilon)
            shapes = {name: assignment.shapes[name] for name in fold.tensors}
            again = fold.inward(like.read, shapes)
            if all(_close(again[name], read(name)) for name in fold.tensors):
                return fold
    return None


def _ratio(folded: Array, original: Array, axis: int) -> Array | None:
    """What every output of a weight was multiplied by to make another one of it, or None."""
    rows = np.moveaxis(folded, axis, 0).reshape(folded.shape[axis], -1).astype(np.float64)
    before = np.moveaxis(original, axis, 0).reshape(len(rows), -1).astype(np.float64)
    squares = (before**2).sum(1)
    if not squares.all():
        return None
    ratio: Array = (rows * before).sum(1) / squares
    return ratio if _close(ratio[:, None] * before, rows) else None


def _epsilon(ratio: Array, norm: str, like: Checkpoint) -> float | None:
    """The epsilon with which a norm multiplies by ``ratio``, or None if there is none."""
    variance = like.read(f"{norm}.running_var").astype(np.float64)
    weight = f"{norm}.weight"
    gain = like.read(weight).astype(np.float64) if weight in like.shapes else np.ones_like(variance)
    if not ratio.all() or not gain.all() or np.any(np.sign(ratio) != np.sign(gain)):
        return None
    found = (gain / ratio) ** 2 - variance
    # Rounding of the fold is relative to the variance: the smallest one tells best.
    best = float(found[int(np.argmin(variance))])
    if not -_CLOSE < best < _LARGEST_EPSILON or np.any(np.abs(found - best) > _CLOSE * (variance + 1)):
        return None
    exponent = round(np.log10(max(best, 1e-12)))
    usual = 10.0**exponent  # an epsilon is a power of ten, which the numbers only tell roughly
    return usual if exponent >= -8 and abs(best - usual) < max(0.05 * usual, 1e-6) else max(best, 0.0)


def _scale_and_shift(read: Read, norm: str, affine: bool, epsilon: float) -> tuple[Array, Array]:
    mean, variance = (read(join(norm, leaf)).astype(np.float64) for leaf in _STATISTICS)
    scale = 1 / np.sqrt(variance + epsilon)
    if not affine:
        return scale, -mean * scale
    scale = scale * read(join(norm, "weight"))
    return scale, read(join(norm, "bias")) - mean * scale


def _close(first: Array, second: Array) -> bool:
    room = _CLOSE * float(np.abs(second).max(initial=0))
    return first.shape == second.shape and bool(np.all(np.abs(first - second) <= room))

"""What is trained: one matrix per dim of the stream, gates for what lives in layers, a matrix over layers a stack.

A dim's operator is one, whatever tensors carry it (LiGO, arXiv:2303.00980, ties them alike). The tensors take it in
their own forms - outputs R, contracted inputs its dual, a norm's reader with the scale of its norm - so that
with R₀ the form of the first tensor, R_u that of a use u, and M the trained matrix, which starts at R₀, a use applies

    R_u + diag(‖R_u,t‖ / ‖R₀,t‖) (M - R₀)        (rows t)

which is R_u before the first step. A gate has two numbers a (1 at the start) and b (0) per target index t:

    y_t = a_t (R_u x)_t + b_t ‖R_u,t‖ x_p(t)

p(t) is the partner of t: the t-th index that the operator drops, or, where it drops none, the one behind its largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._recover.extras import torch

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def along(weights: Any, x: Any) -> Any:
    """``[target, source]`` times ``[pre, source, post]`` over the middle axis."""
    if x.shape[2] == 1:
        return (x[:, :, 0] @ weights.T)[:, :, None]
    return torch().matmul(weights, x)


@dataclass(frozen=True, slots=True)
class Start:
    """An operator that does not change: a selection of indices with a factor each, or a whole matrix.

    Attributes:
        index: int64 ``[target]``, or None. factor: float64 ``[target]`` beside it; None: 1.
        matrix: float64 ``[target, source]``, where it is no selection.
        source: size of the source.
    """

    source: int
    index: Indices | None = None
    factor: Floats | None = None
    matrix: Floats | None = None

    @classmethod
    def of(cls, cut: NDArray[Any], source: int) -> Start:
        """From indices, or from a matrix ``[target, source]``."""
        if cut.ndim == 1:
            return cls(source, index=cut.astype(np.int64))
        if (np.count_nonzero(cut, axis=1) > 1).any():
            return cls(source, matrix=cut.astype(np.float64))
        index = np.abs(cut).argmax(axis=1).astype(np.int64)
        factor = cut[np.arange(len(cut)), index].astype(np.float64)
        return cls(source, index=index, factor=None if (factor == 1.0).all() else factor)

    @property
    def sizes(self) -> Floats:
        """‖R_t‖ of every row."""
        if self.matrix is not None:
            norms: Floats = np.linalg.norm(self.matrix, axis=1)
            return norms
        assert self.index is not None
        return np.ones(len(self.index)) if self.factor is None else np.abs(self.factor)

    def dense(self) -> Floats:
        """The matrix, ``[target, source]``."""
        if self.matrix is not None:
            return self.matrix
        assert self.index is not None
        made = np.zeros((len(self.index), self.source))
        made[np.arange(len(self.index)), self.index] = 1.0 if self.factor is None else self.factor
        return made

    def partners(self) -> Indices:
        """The source index beside every target index: see the module."""
        count = len(self.sizes)
        dropped = np.flatnonzero(~(self.dense() != 0.0).any(axis=0))
        if len(dropped):
            return np.resize(dropped, count).astype(np.int64)
        largest = np.abs(self.dense()).argmax(axis=1)
        beside: Indices = ((largest + 1) % self.source).astype(np.int64)
        return beside


class FixedUse:
    """A use of an operator that is not trained."""

    def __init__(self, start: Start) -> None:
        library = torch()
        self._index = None if start.index is None else library.from_numpy(start.index)
        numbers = start.factor if start.matrix is None else start.matrix
        self._numbers = None if numbers is None else library.from_numpy(numbers.astype(np.float32))

    def __call__(self, x: Any) -> Any:
        """``[pre, source, post]`` to ``[pre, target, post]``."""
        if self._index is None:
            return along(self._numbers, x)
        picked = x.index_select(1, self._index)
        return picked if self._numbers is None else picked * self._numbers[None, :, None]


class DimMatrix:
    """The trained matrix of one dim, from the first tensor that carries it."""

    def __init__(self, start: Start) -> None:
        library = torch()
        self.first = start
        self._reference = library.from_numpy(start.dense().astype(np.float32))
        self.matrix = library.nn.Parameter(self._reference.clone())

    def use(self, start: Start) -> MatrixUse:
        """The form that another tensor takes."""
        return MatrixUse(self, start)

    def moved(self) -> Any:
        """M - R₀."""
        return self.matrix - self._reference


class MatrixUse:
    """A form of a dim's matrix."""

    def __init__(self, owner: DimMatrix, start: Start) -> None:
        library = torch()
        self._owner = owner
        self._start = library.from_numpy(start.dense().astype(np.float32))
        self._gain = library.from_numpy(_ratio(start.sizes, owner.first.sizes).astype(np.float32))[:, None]

    def __call__(self, x: Any) -> Any:
        """``[pre, source, post]`` to ``[pre, target, post]``."""
        return along(self._start + self._gain * self._owner.moved(), x)


class Gates:
    """The gates of one dim: ``[layers, target]`` each, or one row where it does not live in layers."""

    def __init__(self, rows: int, target: int) -> None:
        library = torch()
        self.own = library.nn.Parameter(library.ones(rows, target))
        self.other = library.nn.Parameter(library.zeros(rows, target))
        self._partners: dict[int, Indices] = {}

    def use(self, start: Start, layer: int) -> GateUse:
        """The form that a tensor of a source layer takes."""
        row = min(layer, len(self.own) - 1)
        return GateUse(self, row, start, self._partners.setdefault(row, start.partners()))


class GateUse:
    """A form of a dim's gates."""

    def __init__(self, owner: Gates, row: int, start: Start, partners: Indices) -> None:
        library = torch()
        sizes = start.sizes
        typical = float(sizes[sizes > 0].mean()) if (sizes > 0).any() else 1.0
        self._owner, self._row, self._start = owner, row, FixedUse(start)
        self._partners = library.from_numpy(partners)
        self._sizes = library.from_numpy(np.where(sizes > 0, sizes, typical).astype(np.float32))

    def __call__(self, x: Any) -> Any:
        """``[pre, source, post]`` to ``[pre, target, post]``."""
        own, other = self._owner.own[self._row], self._owner.other[self._row] * self._sizes
        return own[None, :, None] * self._start(x) + other[None, :, None] * x.index_select(1, self._partners)


def _ratio(sizes: Floats, first: Floats) -> Floats:
    """How large the rows of a use are beside those of the first one; what one of them lacks takes the mean."""
    both = (sizes > 0) & (first > 0)
    ratio = np.divide(sizes, first, out=np.ones_like(sizes), where=both)
    typical = float(ratio[both].mean()) if both.any() else 1.0
    return np.where(both, ratio, typical)


Use = FixedUse | MatrixUse | GateUse


@dataclass(slots=True)
class Operators:
    """All that is trained.

    Attributes:
        matrices: by dim. gates: by dim. depths: by stack, torch parameters ``[target layers, source layers]``.
        mixes: by chain, torch parameters ``[blocks, blocks]``.
    """

    matrices: dict[str, DimMatrix] = field(default_factory=dict)
    gates: dict[str, Gates] = field(default_factory=dict)
    depths: dict[str, Any] = field(default_factory=dict)
    mixes: dict[str, Any] = field(default_factory=dict)

    def matrix(self, dim: str, start: Start) -> Use:
        """A use of a dim's matrix."""
        return self.matrices.setdefault(dim, DimMatrix(start)).use(start)

    def gate(self, dim: str, start: Start, layer: int, rows: int) -> Use:
        """A use of a dim's gates."""
        if dim not in self.gates:
            self.gates[dim] = Gates(rows, len(start.sizes))
        return self.gates[dim].use(start, layer)

    def named(self) -> Mapping[str, Any]:
        """Every torch parameter by name."""
        found = {f"matrix {dim}": one.matrix for dim, one in self.matrices.items()}
        for dim, gates in self.gates.items():
            found |= {f"gates {dim}": gates.own, f"partners {dim}": gates.other}
        found |= {f"layers {stack}": depth for stack, depth in self.depths.items()}
        return found | {f"blocks {chain}": mix for chain, mix in self.mixes.items()}

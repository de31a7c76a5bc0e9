"""The basis that the stream is turned into: eigenvectors of what the weights read from it and write into it.

G = Σ w · C XᵀX C / ‖X‖², with C = I - 11ᵀ/h where the norms take the mean off (LayerNorm) and C = I where they do not
(RMSNorm). X runs over the layers' readers and writers (w = 1 each, queries, keys and values apart), what the stream
starts from (w = 6L for L layers: token embeddings with their mean over the vocabulary taken off, or the embedding of
patches), tables of positions (0.6L together) and heads not tied to an embedding (L each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bot_onnx.align.axes import ranges
from bot_onnx.align.folding import Folding, refusal
from bot_onnx.align.types import AnyArray, Tensors
from bot_onnx.graph.types import Stack, Structure

Floats = NDArray[np.float64]
Step = Callable[[str], None]

START_WEIGHT, TABLE_WEIGHT = 6.0, 0.6


@dataclass(frozen=True, slots=True)
class Basis:
    """What the stream is turned by.

    Attributes:
        turn: R, float64 ``[target, source]``: x becomes R x.
        share: ρ, the share of the Gram matrix' trace that R keeps.
        centred: the norms take the mean off.
    """

    turn: Floats
    share: float
    centred: bool

    @property
    def scale(self) -> float:
        """γ = √(ρ h_s / h_t): what a norm of the turned stream must multiply by.

        The turned stream has ρ of the energy in h_t channels, so that its norm divides by √(ρ h_s / h_t) times what
        the source's divides by.
        """
        target, source = self.turn.shape
        return float(np.sqrt(self.share * source / target))


def weight_moments(structure: Structure, folding: Folding, tensors: Tensors, step: Step) -> Floats:
    """G without C, ``[hidden, hidden]``: gathered over the weights."""
    source = structure.dims[folding.hidden].size
    gram = np.zeros((source, source))
    for name, rows, weight in _weighted(structure, folding, tensors):
        gram += weight * _gram(rows)
        step(name)
    return gram


def find_basis(moments: Floats, target: int, *, centred: bool) -> Basis:
    """First eigenvectors of second moments ``[hidden, hidden]``: of the weights, or of the stream on data.

    R = Qᵀ, or B Qᵀ where the mean is taken off: Q then has target - 1 columns, all orthogonal to 1, and B, of
    orthonormal columns with 1ᵀB = 0, brings them to ``target`` channels whose mean is 0.

    Raises:
        ResampleError: weights that are not finite.
    """
    source, gram = len(moments), moments
    if not np.isfinite(gram).all():
        raise refusal("some of its weights are NaN or infinite")
    if centred:
        gram = gram - gram.mean(axis=0)
        gram -= gram.mean(axis=1, keepdims=True)
    trace = float(np.trace(gram))
    if centred:
        gram = gram - (1.0 + trace) / source  # the mean's direction comes last, whatever else is empty
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    kept = target - 1 if centred else target
    leading = _signed(vectors[:, ::-1][:, :kept])
    share = float(values[::-1][:kept].clip(0).sum() / trace) if trace > 0 else 1.0
    turn = centred_basis(target) @ leading.T if centred else leading.T
    return Basis(np.ascontiguousarray(turn), min(share, 1.0), centred)


def centred_basis(size: int) -> Floats:
    """B: ``[size, size - 1]``, orthonormal columns that sum to 0; the reflection that takes e₀ to 1/√size, less e₀."""
    mirror = np.full(size, -1.0 / np.sqrt(size))
    mirror[0] += 1.0
    reflection = np.eye(size) - 2.0 * np.outer(mirror, mirror) / np.dot(mirror, mirror)
    return np.ascontiguousarray(reflection[:, 1:])


def _signed(vectors: Floats) -> Floats:
    """Eigenvectors with their largest component positive, so that the result depends on the weights alone."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1.0, signs)


def _gram(rows: AnyArray) -> Floats:
    """XᵀX / ‖X‖² of ``[n, hidden]``."""
    energy = float(np.vdot(rows, rows))
    return np.asarray(rows.T @ rows, dtype=np.float64) / energy if energy > 0 else np.zeros((rows.shape[1],) * 2)


def _weighted(structure: Structure, folding: Folding, tensors: Tensors) -> Iterator[tuple[str, AnyArray, float]]:
    """Every X with its weight."""
    layers = sum(chain.count for chain in structure.chains)
    starts: list[tuple[Stack, str]] = []
    tables: list[tuple[Stack, str]] = []
    for stack in structure.stacks:
        if stack.twin_of is not None or folding.hidden not in stack.axes or stack.kind not in _PATTERNS:
            continue
        for name in stack.tensors:
            if stack.kind == "table" or (stack.kind == "embedding" and not _is_token_table(structure, stack)):
                tables.append((stack, name))
            elif stack.chain is not None:
                for rows in _pieces(structure, stack, folding, folding.read(name, tensors)):
                    yield name, rows, 1.0
            elif name in folding.norm_of:
                yield name, _rows(stack, folding, folding.read(name, tensors)), float(layers)
            else:
                starts.append((stack, name))
    for stack, name in starts:
        rows = _rows(stack, folding, folding.read(name, tensors))
        if stack.kind == "embedding":
            rows = rows - rows.mean(axis=0)
        yield name, rows, START_WEIGHT * layers / len(starts)
    if tables:
        together = [_rows(stack, folding, folding.read(name, tensors)) for stack, name in tables]
        yield tables[0][1], np.concatenate(together), TABLE_WEIGHT * layers


_PATTERNS = frozenset({"matrix", "kernel", "embedding", "table"})


def _is_token_table(structure: Structure, stack: Stack) -> bool:
    dim = stack.axes[0]
    return dim is not None and structure.dims[dim].role == "vocab"


def _rows(stack: Stack, folding: Folding, array: AnyArray, axis: int | None = None) -> AnyArray:
    """``[n, hidden]``."""
    place = stack.axes.index(folding.hidden) if axis is None else axis
    return np.moveaxis(array, place, -1).reshape(-1, array.shape[place])


def _pieces(structure: Structure, stack: Stack, folding: Folding, array: AnyArray) -> Iterator[AnyArray]:
    """A layer's matrix, once per axis along hidden, the parts of its other axis (queries, keys, values) apart."""
    for axis, dim in enumerate(stack.axes):
        if dim != folding.hidden:
            continue
        other = next((i for i, d in enumerate(stack.axes) if i != axis and d is not None), None)
        identity = stack.axes[other] if other is not None else None
        if other is None or identity is None:
            yield _rows(stack, folding, array, axis)
            continue
        for part in ranges(structure, identity):
            index = [part if i == other else slice(None) for i in range(array.ndim)]
            yield _rows(stack, folding, array[tuple(index)], axis)

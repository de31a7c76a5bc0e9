"""The basis that the stream is turned into: eigenvectors of what the weights read from it and write into it.

G = Σ w · C XᵀX C / ‖X‖², with C = I - 11ᵀ/h where the norms take the mean off (LayerNorm) and C = I where they do not
(RMSNorm). X runs over the layers' readers and writers (w = 1 each, queries, keys and values apart), what the stream
starts from (w = 6L for L layers: token embeddings with their mean over the vocabulary taken off, or the embedding of
patches), tables of positions (0.6L together) and heads not tied to an embedding (L each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import ranges
from bot_onnx._align.folding import Folding, refusal
from bot_onnx._align.places import Array, Namespace, placed, to_numpy
from bot_onnx._align.types import AnyArray, Tensors
from bot_onnx._structure import Role, Stack, Structure

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Step = Callable[[str], None]

START_WEIGHT, TABLE_WEIGHT = 6.0, 0.6
_BLOCK = 4096  #: rows that are centred at a time


@dataclass(frozen=True, slots=True)
class Basis:
    """What the stream is turned by.

    Attributes:
        write: R, float64 ``[target, source]``: x becomes R x. read: R_in of the same shape: a reader W becomes W R_inᵀ.
        share: ρ, the share of the moments' trace that R keeps.
        centred: R drops the mean, which nothing sees.
    """

    write: Floats
    read: Floats
    share: float
    centred: bool

    @property
    def scale(self) -> float:
        """√(ρ h_s / h_t): what a norm of the turned stream must multiply by.

        The turned stream has ρ of the energy in h_t channels, so that its norm divides by √(ρ h_s / h_t) times what
        the source's divides by.
        """
        target, source = self.write.shape
        return float(np.sqrt(self.share * source / target))


def weight_moments(structure: Structure, folding: Folding, tensors: Tensors, step: Step, xp: Namespace = np) -> Floats:
    """G without C, ``[hidden, hidden]``: gathered over the weights, the products made in ``xp``."""
    source = structure.dims[folding.hidden].size
    gram = xp.zeros((source, source), dtype=xp.float64)
    for name, blocks, weight in _weighted(structure, folding, tensors):
        _add(gram, weight, blocks, xp)
        step(name)
    return to_numpy(gram)


def find_basis(
    moments: Floats,
    target: int,
    *,
    centred: bool,
    keeps_mean: bool = False,
    pinned: Indices | None = None,
    xp: Namespace = np,
) -> Basis:
    """Leading eigenvectors of second moments ``[hidden, hidden]``: of the weights, or of the stream on data.

    On the n channels that are not pinned, which become t: R = R_in = Qᵀ; where the norms take the mean off R = B Qᵀ: Q
    then has t - 1 columns, all orthogonal to 1, and B, of orthonormal columns with 1ᵀB = 0, brings them to t channels
    whose mean is 0. Where something sees the mean, R = B Qᵀ + a v uᵀ and R_in = B Qᵀ + v uᵀ / a, with u = 1/√n,
    v = 1/√t and a = √(n/t), so that the sum over the channels is what it was, pinned ones counted in.

    Args:
        moments: ``[hidden, hidden]``.
        target: channels afterwards, more than are pinned.
        centred: the norms take the mean off.
        keeps_mean: something besides them sees it.
        pinned: channels that stay as they are, at the first places.
        xp: namespace in which the eigenvectors are found.

    Raises:
        ResampleError: weights that are not finite.
    """
    if not np.isfinite(moments).all():
        raise refusal("some of its weights are NaN or infinite")
    source = len(moments)
    fixed = np.zeros(0, dtype=np.intp) if pinned is None else pinned
    rest = np.setdiff1d(np.arange(source), fixed)
    inner, places = moments[np.ix_(rest, rest)], target - len(fixed)
    turn, kept, whole = _leading(inner, places, centred=centred, xp=xp)
    pinned_share = float(np.trace(moments[np.ix_(fixed, fixed)]))
    total = whole + pinned_share
    share = (kept + pinned_share) / total if total > 0 else 1.0
    write, read = np.zeros((target, source)), np.zeros((target, source))
    for row, channel in enumerate(fixed):
        write[row, channel] = read[row, channel] = 1.0
    mean = np.outer(np.full(places, places**-0.5), np.full(len(rest), len(rest) ** -0.5)) if keeps_mean else 0.0
    stretch = np.sqrt(len(rest) / places)
    write[len(fixed) :, rest] = turn + stretch * mean if centred else turn
    read[len(fixed) :, rest] = turn + mean / stretch if centred else turn
    return Basis(write, read, min(share, 1.0), centred and not keeps_mean)


def _leading(moments: Floats, places: int, *, centred: bool, xp: Namespace) -> tuple[Floats, float, float]:
    """Qᵀ or B Qᵀ ``[places, n]``, and what it keeps of the trace (mean taken off where ``centred``), and the trace."""
    gram, size = moments, len(moments)
    if centred:
        gram = gram - gram.mean(axis=0)
        gram -= gram.mean(axis=1, keepdims=True)
    trace = float(np.trace(gram))
    if centred:
        gram = gram - (1.0 + trace) / size  # the mean's direction comes last, whatever else is empty
    found = xp.linalg.eigh(xp.asarray((gram + gram.T) / 2))
    values, vectors = to_numpy(found[0]), to_numpy(found[1])
    count = places - 1 if centred else places
    leading = _signed(vectors[:, ::-1][:, :count])
    turn = centred_basis(places) @ leading.T if centred else leading.T
    return np.ascontiguousarray(turn), float(values[::-1][:count].clip(0).sum()), trace


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


def _add(gram: Array, weight: float, blocks: Iterable[AnyArray], xp: Namespace) -> None:
    """Add w · XᵀX / ‖X‖² in place, X in blocks ``[n, hidden]``; ‖X‖² is the trace, and costs no pass over X."""
    product = reduce(add, (xp.matmul(here.T, here) for here in (placed(rows, xp) for rows in blocks)))
    diagonal = xp.reshape(product, (-1,))[:: gram.shape[0] + 1]
    energy = float(xp.sum(diagonal, dtype=xp.float64))
    if energy > 0:
        product *= weight / energy
        gram += product


def _weighted(
    structure: Structure, folding: Folding, tensors: Tensors
) -> Iterator[tuple[str, Iterable[AnyArray], float]]:
    """Every X in blocks of rows, with its weight."""
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
                    yield name, (rows,), 1.0
            elif folding.reads(name):
                yield name, (_rows(stack, folding, folding.read(name, tensors)),), float(layers)
            else:
                starts.append((stack, name))
    for stack, name in starts:
        rows = _rows(stack, folding, folding.read(name, tensors))
        blocks = _without_mean(rows) if stack.kind == "embedding" else (rows,)
        yield name, blocks, START_WEIGHT * layers / len(starts)
    if tables:
        together = (_rows(stack, folding, folding.read(name, tensors)) for stack, name in tables)
        yield tables[0][1], together, TABLE_WEIGHT * layers


def _without_mean(rows: AnyArray) -> Iterator[AnyArray]:
    """Rows less their mean, a block at a time: a vocabulary's table is often the largest tensor that there is."""
    mean = rows.mean(axis=0)
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK] - mean


_PATTERNS = frozenset({"matrix", "kernel", "embedding", "table"})


def _is_token_table(structure: Structure, stack: Stack) -> bool:
    dim = stack.axes[0]
    return dim is not None and structure.dims[dim].role == Role.VOCAB


def _rows(stack: Stack, folding: Folding, array: AnyArray, axis: int | None = None) -> AnyArray:
    """``[n, hidden]``."""
    place = stack.axes.index(folding.hidden) if axis is None else axis
    return np.moveaxis(array, place, -1).reshape(-1, array.shape[place])


def _pieces(structure: Structure, stack: Stack, folding: Folding, array: AnyArray) -> Iterator[AnyArray]:
    """A layer's matrix, once per axis along hidden, the parts of its other axes (queries, keys, values) apart."""
    taps = [place for place, direction in enumerate(stack.directions) if direction == "none"]
    for axis, dim in enumerate(stack.axes):
        if dim != folding.hidden:
            continue
        others = [place for place, other in enumerate(stack.axes) if place not in (axis, *taps) and other is not None]
        if not others:
            yield _rows(stack, folding, array, axis)
            continue
        front = np.moveaxis(array, others, range(len(others)))
        front = front.reshape(-1, *front.shape[len(others) :])
        place = 1 + axis - sum(other < axis for other in others)
        for part in ranges(structure, *(stack.axes[other] or "" for other in others)):
            yield _rows(stack, folding, front[part], place)

"""The layer axis: which source layers make a target layer.

Three families: selections (one source layer each), the function-preserving ``identity`` (selections, plus a mark on
the layers that must do nothing), and filters. Filters on this axis do not wrap round: layer 0 and the last layer are
no neighbours. They see the layers mirrored at both ends (PyWavelets' mode ``symmetric``) and are aligned so that row
k lies where target layer k does, at (k + ½)·rho - ½ on the source's scale, rho = L_s / L_t.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import Literal

import numpy as np

from bot_onnx._resample.filters import Matrix, grow_level, taps
from bot_onnx._structure import Residual
from bot_onnx.errors import ResampleError

LayerAxis = Literal["auto", "even", "first", "haar", "stack", "interleave", "identity", "wavelet"]

_FILTERS = ("haar", "wavelet")
_SHRINKING = ("even", "first", *_FILTERS)
_GROWING = ("interleave", "stack", "identity", *_FILTERS)


@dataclass(frozen=True, slots=True)
class LayerMap:
    """How target layers are made.

    Attributes:
        rows: per target layer its ``(source layer, weight)`` pairs; weights sum to 1.
        added: per target layer, True if it must do nothing (mode ``identity``).
        filtered: a filter was applied, so the ``ortho`` gain √rho_L and noise in the detail band apply.
    """

    rows: tuple[tuple[tuple[int, float], ...], ...]
    added: tuple[bool, ...]
    filtered: bool = False

    @classmethod
    def of_matrix(cls, matrix: Matrix, *, filtered: bool) -> LayerMap:
        """The map of a matrix ``[target layers, source layers]``, of which zeros are not read."""
        rows = (tuple((int(i), float(row[i])) for i in np.flatnonzero(row)) or ((0, 0.0),) for row in matrix)
        return cls(tuple(rows), (False,) * len(matrix), filtered)

    @property
    def is_selection(self) -> bool:
        """Every target layer comes from one source layer."""
        return all(len(row) == 1 for row in self.rows)


def layer_map(
    mode: LayerAxis, source: int, target: int, *, wavelet: str, residual: Residual, place: str, turns: int = 1
) -> LayerMap:
    """Resolve a mode for ``source`` -> ``target`` layers.

    ``even``: layers ⌊k·rho⌋; ``first``: the first ones; ``interleave``: ⌊k·rho⌋, every layer repeated; ``stack``: the
    whole run repeated; ``identity``: see :func:`identity_layers`; ``haar`` / ``wavelet``: filters
    over powers of two, for other ratios the nearest layers of the next power of two (growing) or ``even``
    (shrinking). ``auto``: ``even``; growing ``identity`` where there is a residual stream, else ``interleave``.
    Selections keep layer 0.

    Args:
        mode: one of :data:`LayerAxis`.
        source: layers in the source.
        target: layers in the target.
        wavelet: filter of mode ``wavelet``.
        residual: the network's kind.
        place: what the layers belong to, for messages.
        turns: after how many layers what they read from outside is the same again.

    Raises:
        ResampleError: the mode does not fit the direction or the network.
    """
    if source < 1 or target < 1:
        raise ResampleError(f"{place}: {source} -> {target} layers; a chain keeps at least one layer")
    if source == target:
        return _selection(range(source))
    if mode == "auto":
        growing: LayerAxis = "interleave" if residual == "none" else "identity"
        mode = growing if target > source else "even"
    allowed = _GROWING if target > source else _SHRINKING
    if mode not in allowed:
        raise ResampleError(
            f"{place}: layer_axis '{mode}' cannot make {target} layers of {source}; use auto, {', '.join(allowed)}"
        )
    if mode in _FILTERS:
        return _filtered("haar" if mode == "haar" else wavelet, source, target)
    if mode == "first":
        return _selection(range(target))
    if mode == "stack":
        return _selection(k % source for k in range(target))
    if mode != "identity":
        return _selection(k * source // target for k in range(target))
    if residual == "none":
        raise ResampleError(
            f"{place}: layer_axis 'identity' needs a residual stream past the layers, and none was found; "
            "use interleave or stack"
        )
    picks, added = identity_layers(source, target, turns)
    return LayerMap(_selection(picks).rows, added)


def identity_layers(source: int, target: int, turns: int = 1) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Where layers that do nothing stand among those of the source, and of which layers they are made.

    Behind the layers that they are made of, evenly spread: layers ⌊k·rho⌋, the repeats added. Where layers take turns
    in what they read, the place of a layer says which turn it has, as it does which number of the place it holds: all
    of the source's keep theirs, and the added ones follow the last one, each made of the last layer that has its turn.

    Args:
        source, target: numbers of layers, the target's being the larger one.
        turns: after how many layers what they read from outside is the same again; 0: places are kept all the same.

    Returns:
        Per target layer the source layer, and whether it is added.
    """
    if turns != 1:
        span = min(max(turns, 1), source)
        more = [source - span + (k - source) % span for k in range(source, target)]
        return (*range(source), *more), tuple(k >= source for k in range(target))
    picks = tuple(k * source // target for k in range(target))
    return picks, tuple(k > 0 and picks[k] == picks[k - 1] for k in range(target))


def _selection(picks: Iterable[int]) -> LayerMap:
    rows = tuple(((pick, 1.0),) for pick in picks)
    return LayerMap(rows, (False,) * len(rows))


def _filtered(wavelet: str, source: int, target: int) -> LayerMap:
    if target < source and not _is_dyadic(source, target):
        return _selection(k * source // target for k in range(target))
    return LayerMap.of_matrix(layer_matrix(wavelet, source, target), filtered=True)


def _is_dyadic(large: int, small: int) -> bool:
    ratio = large // small
    return ratio * small == large and ratio & (ratio - 1) == 0


@lru_cache(maxsize=64)
def layer_matrix(wavelet: str, source: int, target: int) -> Matrix:
    """Aligned low-pass operator over layers, ``[target, source]``, rows summing to 1.

    Every row's centroid Σ l·R[k, l] lies within half a layer of (k + ½)·rho - ½. Alignment is by whole layers of the
    finer side; what a long filter's side lobes still displace at the mirrored ends is put right by a small tilt
    of the row around the place.
    """
    if target <= source:
        matrix = _shrinking_rows(wavelet, source, target)
    else:
        level = grow_level(source, target)
        fine = _growing_rows(wavelet, source, level)
        matrix = fine[[floor((k + 0.5) * fine.shape[0] / target) for k in range(target)]]
    matrix /= matrix.sum(axis=1, keepdims=True)
    _centre_rows(matrix)
    matrix.flags.writeable = False
    return matrix


def _cascade(filter_taps: Matrix, level: int) -> Matrix:
    """Equivalent filter of ``level`` stages: f * f↑2 * f↑4 …"""
    out = np.ones(1)
    for stage in range(level):
        spread = np.zeros((len(filter_taps) - 1) * 2**stage + 1)
        spread[:: 2**stage] = filter_taps
        out = np.convolve(out, spread)
    return out


def _half_down(value: float) -> int:
    """Nearest integer; a tie goes down, towards layer 0."""
    return ceil(value - 0.5 - 1e-9)


def _mirror(position: int, n: int) -> int:
    """Index of ``position`` in a run mirrored at both ends, end layers repeated."""
    position %= 2 * n
    return position if position < n else 2 * n - 1 - position


def _shrinking_rows(wavelet: str, source: int, target: int) -> Matrix:
    """R[k, k·rho + s - t] += h[t] with s the whole delay that centres h on its block of rho layers."""
    ratio = source // target
    h = _cascade(taps(wavelet, "dec_lo"), ratio.bit_length() - 1)
    centre = float(np.arange(len(h)) @ h / h.sum())
    shift = _half_down((ratio - 1) / 2 + centre)
    matrix = np.zeros((target, source))
    for k in range(target):
        for t, value in enumerate(h):
            matrix[k, _mirror(k * ratio + shift - t, source)] += value
    return matrix


def _growing_rows(wavelet: str, source: int, level: int) -> Matrix:
    """R[k, l] += g[k - rho·l + s] for layers l of the mirrored run, rho = 2^level."""
    ratio = 2**level
    g = _cascade(taps(wavelet, "rec_lo"), level)
    centre = float(np.arange(len(g)) @ g / g.sum())
    shift = _half_down(centre + 0.5 - ratio / 2)
    matrix = np.zeros((source * ratio, source))
    for k in range(source * ratio):
        first, last = ceil((k + shift - len(g) + 1) / ratio), floor((k + shift) / ratio)
        for layer in range(first, last + 1):
            matrix[k, _mirror(layer, source)] += g[k + shift - ratio * layer]
    return matrix


def _centre_rows(matrix: Matrix) -> None:
    """Bring, in place, every row's centroid that is off by more than half a layer to where its layer sits.

    By the least change in norm over the layers next to the place, two target layers wide: Δ_l ∝ l - mean, which
    sums to zero, so rows keep their sum.
    """
    target, source = matrix.shape
    width = min(source, max(4, 2 * source // target))
    if width == 1:
        return
    for k in range(target):
        place = min(max((k + 0.5) * source / target - 0.5, 0.0), source - 1.0)
        off = place - float(np.arange(source) @ matrix[k])
        if abs(off) > 0.5 + 1e-9:
            first = min(max(round(place - (width - 1) / 2), 0), source - width)
            tilt = np.arange(width) - (width - 1) / 2
            matrix[k, first : first + width] += off * tilt / (tilt @ tilt)

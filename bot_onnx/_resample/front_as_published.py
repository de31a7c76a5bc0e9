"""FRONT as its authors publish it: transforms that are not normalised, and layers that are standardised alone.

With W_l a layer of mean mu_l and standard deviation sigma_l, S_l = (W_l - mu_l) / sigma_l, and i = min(k, L_s - 1):

    W'_k = mu_i + sigma_i · (IDCT · F · DCT)(S)_k,   DCT: X_r = 2 Σ x_j cos(π r (j + ½) / n) along all axes

with F the spectrum cut or padded. Per axis of width that is √rho C_mᵀ[:, :q] C_n[:q], C_n the orthonormal DCT-II
(:mod:`bot_onnx._resample.spectra`).

Shen et al., "One-for-All Model Initialization with Frequency-Domain Knowledge" (FRONT), arXiv:2603.07523.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import prod, sqrt

import numpy as np

from bot_onnx._resample.arrays import Array, Moments, Namespace, dtype_name, to_working
from bot_onnx._resample.axes import FIXED_ROLES, changes, walk
from bot_onnx._resample.depth import LayerMap
from bot_onnx._resample.draws import normal, stream
from bot_onnx._resample.operators import select_vocabulary
from bot_onnx._resample.sources import SourceLayers
from bot_onnx._resample.spectra import Depth, dct_matrix, kept_frequencies, plain_depth_operator, plain_operator
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role


class PublishedFront:
    """One run over one stack."""

    def __init__(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        depth: Depth,
        keep_ratio: float,
        xp: Namespace,
        seed: int,
    ) -> None:
        self.task, self.depth, self.keep_ratio, self.xp, self.seed = task, depth, keep_ratio, xp, seed
        old, new = task.layers
        self.kept_layers = kept_frequencies(old, keep_ratio)
        self.changed = old != new or keep_ratio < 1.0 or any(changes(axis) for axis in task.axes)
        matrix = plain_depth_operator(old, new, depth, self.kept_layers) if self._mixes else np.eye(old)
        layers = LayerMap.of_matrix(matrix, filtered=self._mixes)
        # Mix on the smaller side of the width change.
        self.mix_first = prod(task.target_shape) > prod(task.source_shape)
        self.source = SourceLayers(task, source, layers, xp, self._prepared if self.changed else None)

    def run(self) -> Iterator[Array]:
        """The target's layers, in order."""
        for k in range(self.task.layers[1]):
            x = self.source.mixed(k)
            if not self.changed:
                yield x
                continue
            if self.mix_first:
                x = self._resized(x)
            mean, std = self._moments(min(k, self.task.layers[0] - 1))
            yield self._with_random(k, x) * std + mean

    @property
    def _mixes(self) -> bool:
        return self.task.layers[0] != self.task.layers[1] or self.kept_layers < self.task.layers[0]

    def _moments(self, layer: int) -> tuple[float, float]:
        moments = Moments()
        moments.add(to_working(self.source.raw(layer), self.xp, self.source.place(layer)), self.xp)
        return moments.mean, moments.std

    def _prepared(self, x: Array) -> Array:
        moments = Moments()
        moments.add(x, self.xp)
        x = x - moments.mean
        if moments.std > 0.0:
            x = x / moments.std
        return x if self.mix_first else self._resized(x)

    def _resized(self, x: Array) -> Array:
        shape = list(self.task.source_shape)
        for index, axis in enumerate(self.task.axes):
            x = self.xp.reshape(x, (prod(shape[:index]), shape[index], prod(shape[index + 1 :])))
            x = walk(x, axis, self._leaf, self.xp, every=self.keep_ratio < 1.0)
            shape[index] = axis.target
        return self.xp.reshape(x, tuple(shape))

    def _leaf(self, x: Array, axis: Axis) -> Array:
        if axis.role in FIXED_ROLES:
            return x
        if axis.role == Role.VOCAB:
            return select_vocabulary(x, axis.target, self.xp)
        kept = kept_frequencies(axis.source, self.keep_ratio)
        return self.xp.matmul(_placed(axis.source, axis.target, kept, self.xp, dtype_name(x)), x)

    def _with_random(self, k: int, x: Array) -> Array:
        """Add random frequencies over layers, at the level that white weights have behind the transform."""
        old, new = self.task.layers
        if self.depth != "random" or new <= self.kept_layers:
            return x
        gain = sqrt(old / new * prod(self.task.source_shape) / prod(self.task.target_shape))
        weights = dct_matrix(new)[:, k]
        total = np.zeros(self.task.target_shape, dtype=dtype_name(x))
        for frequency in range(self.kept_layers, new):
            rng = stream(self.seed, self.task.draws, frequency)
            total += normal(rng, self.task.target_shape, dtype_name(x)) * (weights[frequency] * gain)
        return x + self.xp.asarray(total)


@lru_cache(maxsize=4)
def _placed(source: int, target: int, kept: int, xp: Namespace, dtype: str) -> Array:
    return xp.asarray(plain_operator(source, target, kept).astype(dtype))

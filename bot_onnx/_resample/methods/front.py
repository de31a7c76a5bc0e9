"""FRONT: weights carried over as the low frequencies of their discrete cosine transform.

A stack T (layers, out, in) of mean mu and standard deviation sigma is standardised, transformed along all its axes by
the orthonormal DCT-II, cut or padded to the target shape, and transformed back:

    T' = mu + sigma · IDCT(fit(DCT((T - mu) / sigma)))

With C_n the orthonormal DCT-II matrix that is, per axis of width, the operator C_mᵀ[:, :q] C_n[:q], q = min(n, m), the
same for every tensor; over layers ``depth`` says what fills the frequencies that a deeper network adds. The preset
``published`` is :mod:`bot_onnx._resample.front_as_published`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from math import prod
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bot_onnx._resample.amplitude import leaf_form
from bot_onnx._resample.arrays import Array, Moments, Namespace, dtype_name
from bot_onnx._resample.axes import changes, check_axes
from bot_onnx._resample.depth import LayerMap
from bot_onnx._resample.draws import normal, stream
from bot_onnx._resample.filters import DCT
from bot_onnx._resample.front_as_published import PublishedFront
from bot_onnx._resample.needs import depth_changes, layers_are_added, width_changes
from bot_onnx._resample.operators import Filters
from bot_onnx._resample.plain import plain_task
from bot_onnx._resample.registry import AxisDirection, Method, MethodOptions
from bot_onnx._resample.sources import SourceLayers, check_readers
from bot_onnx._resample.spectra import Depth, dct_matrix, depth_operator, kept_frequencies, plain_operator
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import StackTask

_FILTERS = Filters(DCT, DCT)


class FrontOptions(MethodOptions):
    """Options of method ``front``."""

    depth: Depth = Field(
        "zero",
        description="Frequencies over layers that a deeper network adds: zero; random at the weights' level; "
        "consistence continues the last kept one; repeat goes through the kept ones again.",
    )
    preset: Literal["published"] | None = Field(
        None,
        description="'published': as the authors publish it: transforms that are not normalised, every layer "
        "standardised alone, queries, keys and values as one matrix, consistence in blocks.",
    )
    keep_ratio: float = Field(
        1.0, gt=0, le=1, description="Of preset 'published': the share of every axis' frequencies that is kept."
    )
    qkv: Literal["one", "apart"] | None = Field(
        None,
        description="'one': queries, keys and values are one matrix, kept apart or not, and the axes of heads one "
        "signal each; 'apart': each by itself, and heads stay whole; by default apart, and one with a preset.",
    )

    @model_validator(mode="after")
    def _keeps_as_published(self) -> FrontOptions:
        if self.keep_ratio < 1.0 and self.preset is None:
            raise ValueError("keep_ratio is of preset 'published'; add it, or leave the ratio out")
        return self


def _adds_frequencies(options: FrontOptions, task: StackTask) -> bool:
    """Over layers, beyond those that are kept."""
    refilled = options.keep_ratio < 1.0 and task.layers[1] > 1
    return refilled or layers_are_added(options, task)


def _changes(options: FrontOptions, task: StackTask) -> bool:
    made = depth_changes(options, task) and not task.picks
    return options.keep_ratio < 1.0 or made or width_changes(options, task)


class Front(Method[FrontOptions]):
    """Truncated or zero-padded DCT-II along all axes."""

    name = "front"
    title = "FRONT: low frequencies of the DCT along layers, outputs and inputs"
    reference = "Shen et al., 'Breaking the Scale Barrier' (FRONT), ICML 2026, arXiv:2603.07523"
    direction = "both"
    promises = ("exact-size", "deterministic")
    Options = FrontOptions
    needs = MappingProxyType({"depth": _adds_frequencies, "preset": _changes, "qkv": _changes})

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: FrontOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`.

        The stack is read once for its mean. Where the depth changes, all its layers are held, in their smaller form.
        """
        check_axes(task)
        check_readers(task, source)
        if self.joins_qkv(options):
            plain = plain_task(task)
            return plain.given(_run(plain.task, plain.readers(source, xp), options, xp, seed, start), xp)
        return _run(task, source, options, xp, seed, start)

    def joins_qkv(self, options: FrontOptions) -> bool:
        """As the option, or the preset, says."""
        return options.preset is not None if options.qkv is None else options.qkv == "one"

    def axis_operator(
        self, n_source: int, n_target: int, options: FrontOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """C_mᵀ[:, :q] C_n[:q], the same in both directions; as published, times √(n/m)."""
        if options.preset is not None:
            return plain_operator(n_source, n_target, kept_frequencies(n_source, options.keep_ratio))
        return _FILTERS.operator(n_source, n_target, leaf_form("matrix", direction, "free", "ortho")).matrix


METHOD = Front()


def _run(
    task: StackTask, source: Sequence[Callable[[], Array]], options: FrontOptions, xp: Namespace, seed: int, start: int
) -> Iterator[Array]:
    if options.preset is not None:  # all layers come of one transform
        return islice(PublishedFront(task, source, options.depth, options.keep_ratio, xp, seed).run(), start, None)
    return _Resampling(task, source, options.depth, xp, seed).run(start)


class _Resampling:
    """One run over one stack."""

    def __init__(
        self, task: StackTask, source: Sequence[Callable[[], Array]], depth: Depth, xp: Namespace, seed: int
    ) -> None:
        self.task, self.depth, self.xp, self.seed = task, depth, xp, seed
        self.width = WidthTransform(task, _FILTERS, "ortho")
        self.changed = task.layers[0] != task.layers[1] or any(changes(axis) for axis in task.axes)
        matrix = depth_operator(*task.layers, depth)
        layers = LayerMap.of_matrix(matrix, filtered=task.layers[0] != task.layers[1])
        # Mix on the smaller side of the width change.
        self.mix_first = prod(task.target_shape) > prod(task.source_shape)
        self.source = SourceLayers(task, source, layers, xp, self._prepared if self.changed else None)

    def run(self, start: int) -> Iterator[Array]:
        for k in range(start, self.task.layers[1]):
            x = self.source.mixed(k)
            if not self.changed:
                yield x
                continue
            if self.mix_first:
                x = self.width.apply(x, self.xp)
            yield self._with_new_frequencies(k, x) + self._moments.mean

    @cached_property
    def _moments(self) -> Moments:
        return self.source.moments()

    def _prepared(self, x: Array) -> Array:
        x = x - self._moments.mean  # sigma cancels: everything that follows is linear
        return x if self.mix_first else self.width.apply(x, self.xp)

    def _with_new_frequencies(self, k: int, x: Array) -> Array:
        """Add what random frequencies over layers contribute to layer ``k``: Σ_r C[r, k] N_r, N_r ~ Normal(0, sigma²).

        Noise is the same law before and after an orthonormal transform, so N_r is drawn at the target shape. Every
        frequency has its own stream and is drawn again for each layer rather than held.
        """
        old, new = self.task.layers
        if self.depth != "random" or new <= old:
            return x
        weights = dct_matrix(new)[:, k]
        total = np.zeros(self.task.target_shape, dtype=dtype_name(x))
        for frequency in range(old, new):
            rng = stream(self.seed, self.task.draws, frequency)
            total += normal(rng, self.task.target_shape, dtype_name(x)) * (weights[frequency] * self._moments.std)
        return x + self.xp.asarray(total)

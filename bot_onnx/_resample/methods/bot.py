"""Bidirectional knowledge Transfer (BoT): stacks of weights resampled along layers, outputs and inputs by wavelets.

Large to small keeps the low-pass band of an n-level DWT along every axis that shrinks; small to large inverts it with
the detail bands zero or random. The amplitude of every axis is a choice, made by the ``convention``:

    W'_k = rho_L^{e_L} Σ_l R_L[k, l] (rho_o^{e_o} R_o) W_l (rho_i^{e_i} R~_i)ᵀ,   rho = n_source / n_target

See :mod:`bot_onnx._resample.width` and :mod:`bot_onnx._resample.amplitude` for the exponents along width,
:mod:`bot_onnx._resample.depth` for R_L, and :mod:`bot_onnx._resample.details` for the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.amplitude import RESCALED_KINDS, chosen_convention, fresh_std, leaf_form
from bot_onnx._resample.arrays import Array, Moments, Namespace, dtype_name
from bot_onnx._resample.axes import check_axes, grows
from bot_onnx._resample.bot_needs import NEEDS, layers_of, tie_gain
from bot_onnx._resample.bot_options import BotOptions
from bot_onnx._resample.depth import LayerMap
from bot_onnx._resample.details import Noise, robust_spread
from bot_onnx._resample.draws import normal, stream
from bot_onnx._resample.filters import COPIES, Matrix
from bot_onnx._resample.growth import copied_index
from bot_onnx._resample.plain import plain_task
from bot_onnx._resample.registry import AxisDirection, Method
from bot_onnx._resample.shares import unequal_shares
from bot_onnx._resample.sources import SourceLayers, check_readers, neutral_value, reads_afresh
from bot_onnx._resample.unseen import InBandNoise
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import Axis, StackTask


class Bot(Method[BotOptions]):
    """Wavelet resampling, separable over layers, outputs and inputs."""

    name = "bot"
    title = "BoT: low-pass band of a wavelet transform along layers, outputs and inputs"
    reference = "arXiv:2603.07506"
    direction = "both"
    promises = ("exact-size", "deterministic", "function-preserving: grow, value, haar, identity depth")
    Options = BotOptions
    needs = NEEDS

    def default_alignment(self, options: BotOptions) -> Literal["auto", "none"]:
        """Energy in the low band is what a filter keeps: align first, but for the literal method."""
        return "auto" if options.preset is None else "none"

    def picks_layers(self, options: BotOptions) -> bool:
        """Unless the option, or the preset, says how layers are made."""
        return options.depth_mode == "auto"

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: BotOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`.

        Memory holds one layer and its resampled form where every target layer has one source layer; a filter over
        layers holds those under its taps, in their smaller form. Details ``in-band`` read the stack once more before,
        for its standard deviation, and the ``std-`` conventions run over it twice.
        """
        check_axes(task)
        check_readers(task, source)
        if options.joins_qkv:
            plain = plain_task(task)
            return plain.given(self._layers(plain.task, plain.readers(source, xp), options, xp, seed, start), xp)
        return self._layers(task, source, options, xp, seed, start)

    def _layers(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: BotOptions,
        xp: Namespace,
        seed: int,
        start: int,
    ) -> Iterator[Array]:
        layers = layers_of(options, task)
        return _Resampling(task, source, options, xp, seed, layers).run(start)

    def joins_qkv(self, options: BotOptions) -> bool:
        """As the option, or the preset, says."""
        return options.joins_qkv

    def keeps_function(self, options: BotOptions) -> bool:
        """Unless filters or amplitudes are asked for."""
        return options.keeps_function

    def leaf_matrix(self, axis: Axis, options: BotOptions) -> NDArray[np.float64]:
        """Matrix of a leaf by its law; see :meth:`Method.leaf_matrix`."""
        convention = chosen_convention(options.amplitudes, axis.source, axis.target)
        return options.filters.of_axis(axis, leaf_form("bias", "out", axis.role, convention)).matrix

    def axis_operator(
        self, n_source: int, n_target: int, options: BotOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """Matrix of a plain leaf axis of a matrix, gain included: see :func:`bot_onnx._resample.operator`.

        Of the conventions ``std-…`` the matrix before the stack is rescaled.
        """
        convention = chosen_convention(options.amplitudes, n_source, n_target)
        form = leaf_form("matrix", direction, "free", convention)
        return options.filters.operator(n_source, n_target, form).matrix


METHOD = Bot()


class _Resampling:
    """One run over one stack."""

    def __init__(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: BotOptions,
        xp: Namespace,
        seed: int,
        layers: LayerMap,
    ) -> None:
        self.task, self.options, self.xp, self.seed, self.layers = task, options, xp, seed, layers
        shares = self._shares if options.detail_kind == "shares" else None
        self.width = WidthTransform(task, options.filters, options.amplitudes, options.head_dim_correction, shares)
        self.banded = options.detail_kind in ("gaussian", "uniform") and any(grows(axis) for axis in task.axes)
        noisy = options.detail_kind in ("in-band", "shares")
        self.in_band = InBandNoise(task, options.filters) if noisy else None
        self.extended = InBandNoise(task, options.filters, extended_alone=True) if shares else self.in_band
        # Mix on the smaller side of the width change; a selection mixes nothing, and its copies then share one result.
        larger = prod(task.target_shape) > prod(task.source_shape)
        self.mix_first = self.banded or (larger and not layers.is_selection)
        self.source = SourceLayers(task, source, layers, xp, None if self.mix_first else self._resized)

    def run(self, start: int) -> Iterator[Array]:
        if self._is_untrained():
            self.width = replace(self.width, convention="value")
        gain = self._rescaling()
        for k in range(start, len(self.layers.rows)):
            if self.options.fresh_readers is not None and reads_afresh(self.task, self.layers, k):
                yield self._fresh(k, self.options.fresh_readers)
                continue
            neutral = neutral_value(self.task, self.layers, k)
            x = self._layer(k) if neutral is None else self.source.full(k, neutral)
            x = self._in_band(k, x)
            yield x if gain == 1.0 or neutral is not None else x * gain

    def _is_untrained(self) -> bool:
        """Whether a norm's scale is ones in all layers: a module without weights may be behind it, and hold no gain."""
        if self.task.kind != "norm_scale" or self.options.amplitudes is not None or self.width.is_identity:
            return False
        return all(np.all(self.source.raw(layer) + self.task.offset == 1) for layer in range(self.task.layers[0]))

    def _resized(self, x: Array) -> Array:
        return self.width.apply(x, self.xp)

    def _layer(self, k: int) -> Array:
        rng = stream(self.seed, self.task.draws, k)
        x = self.source.mixed(k)
        if self.layers.filtered:
            x = self._depth_gain(x, self.layers.rows[k], rng)
        if self.mix_first:
            noise = self._noise(rng, float(self.xp.std(x))) if self.banded else None
            x = self.width.apply(x, self.xp, noise.fill if noise else None)
        gain = self.task.gain * (self._tie_gain() if k == self.task.layers[1] - 1 else 1.0)
        if gain == 1.0:
            return x
        return x * gain if self.task.offset == 0.0 else x * gain + self.task.offset * (gain - 1.0)

    def _noise(self, rng: np.random.Generator, sigma: float) -> Noise | None:
        kind = self.options.detail_kind
        return Noise(rng, kind, self.options.noise_scale * sigma) if kind in ("gaussian", "uniform") else None

    def _fresh(self, k: int, deviation: float) -> Array:
        """Layer ``k`` as a fresh network has it: Normal(0, deviation²), biases 0."""
        zeros = self.source.full(k, 0.0)
        if self.task.kind == "bias":
            return zeros
        rng = stream(self.seed, self.task.draws, k)
        return self.xp.asarray(normal(rng, self.task.target_shape, dtype_name(zeros), deviation))

    def _in_band(self, k: int, x: Array) -> Array:
        """Add the noise that activations do not see; an added layer's residual writers consist of it."""
        # What fresh readers make are no copies, which the noise would see.
        fresh = self.options.fresh_readers is not None and self.layers.added[k]
        found = self.in_band if self.layers.added[k] else self.extended  # layers without weights have none to share
        if not found or fresh:
            return x
        rng = stream(self.seed, self.task.draws, k)
        return found.added_to(x, rng, self.options.noise_scale * self._spread, self.xp)

    def _shares(self, axis: Axis) -> Matrix:
        """Unequal shares of the copies of a leaf's indices, the same in all layers of the stack."""
        rng = stream(self.seed, f"{self.task.draws} shares {axis.dim}", 0)
        return unequal_shares(copied_index(COPIES, axis.source, axis.target), rng, self.options.noise_scale)

    @cached_property
    def _spread(self) -> float:
        return robust_spread(self.source.working_layers())

    @cached_property
    def _source_std(self) -> float:
        return self.source.moments().std

    def _depth_gain(self, x: Array, row: tuple[tuple[int, float], ...], rng: np.random.Generator) -> Array:
        """√rho_L under ``ortho``, and noise for the detail band of filtered layers.

        The band of an orthonormal synthesis has per target layer the squared norm 1 - rho_L Σ_l R_L[k, l]²; each layer
        draws that much from its own stream.
        """
        layers_s, layers_t = self.task.layers
        ratio = layers_s / layers_t
        gain = sqrt(ratio) if chosen_convention(self.options.amplitudes, layers_s, layers_t) == "ortho" else 1.0
        if layers_t > layers_s:
            share = sqrt(max(0.0, 1.0 - ratio * sum(weight * weight for _, weight in row)))
            noise = self._noise(rng, float(self.xp.std(x)) * share / sqrt(ratio))
            if noise is not None:
                x = x + self.xp.asarray(noise.draw(tuple(x.shape), dtype_name(x)))
        return x if gain == 1.0 else x * gain

    def _tie_gain(self) -> float:
        return tie_gain(self.options, self.task) if self.options.tie_correction else 1.0

    def _rescaling(self) -> float:
        """Factor of the whole stack under a ``std-`` convention: the wanted standard deviation over the result's.

        Layers that must do nothing do not count; a stack that is constant stays as it is.
        """
        convention = self.options.amplitudes
        if convention not in ("std-source", "std-fresh") or self.task.kind not in RESCALED_KINDS:
            return 1.0
        result = Moments()
        for k in range(len(self.layers.rows)):
            if neutral_value(self.task, self.layers, k) is None:
                result.add(self._layer(k), self.xp)
        wanted = self._source_std if convention == "std-source" else fresh_std(self.task)
        return wanted / result.std if result.std > 0.0 else 1.0

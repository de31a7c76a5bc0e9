"""BoT, boosting by wavelet transform: resample stacks of weights along layers, outputs and inputs.

Large to small keeps the low-pass band of an n-level DWT along every axis that shrinks; small to large inverts it with
the detail bands zero or random. The amplitude of every axis is a choice, made by the ``convention``:

    W'_k = rho_L^{e_L} Σ_l R_L[k, l] (rho_o^{e_o} R_o) W_l (rho_i^{e_i} R~_i)ᵀ,   rho = n_source / n_target

See :mod:`bot_onnx.resample.width` for the exponents along width and :mod:`bot_onnx.resample.depth` for R_L.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from math import prod, sqrt

import numpy as np
import pywt  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bot_onnx.errors import ResampleError
from bot_onnx.resample.arrays import Array, Namespace, dtype_name, is_floating, stream, to_working, working_dtype
from bot_onnx.resample.depth import LayerAxis, LayerMap, layer_map
from bot_onnx.resample.filters import axis_matrix
from bot_onnx.resample.registry import AxisDirection, Method, MethodOptions
from bot_onnx.resample.width import (
    Convention,
    Details,
    Noise,
    WidthTransform,
    check_axes,
    chosen_convention,
    grows,
    leaf_form,
)
from bot_onnx.stack.types import StackTask


class BotOptions(MethodOptions):
    """Options of method ``bot``."""

    wavelet: str = Field("haar", description="Discrete wavelet of PyWavelets along width (and along filtered layers).")
    convention: Convention | None = Field(
        None,
        description="Amplitudes: 'ortho' as the orthonormal transform gives them, 'value' keeps the function; "
        "by default ortho where an axis shrinks and value where it grows.",
    )
    layer_axis: LayerAxis = Field(
        "auto",
        description="How layers are made: even, first (shrinking); interleave, stack, identity (growing); haar, "
        "wavelet (both); auto takes even, and growing identity where there is a residual stream, else interleave.",
    )
    details: Details = Field(
        "zero", description="Detail bands when growing: zero, or noise with the standard deviation of the weights."
    )
    tie_correction: bool = Field(
        True, description="Under 'value', divide the logits' growth out of the last norm before a tied head."
    )
    head_dim_correction: bool = Field(
        True, description="Under 'value', multiply queries and keys by (d_source/d_target)^(1/4) if head_dim changes."
    )

    @field_validator("wavelet")
    @classmethod
    def _known_wavelet(cls, value: str) -> str:
        known = pywt.wavelist(kind="discrete")
        name = value.strip().lower()
        if name in known:
            return name
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        families = "haar, db1-db38, sym2-sym20, coif1-coif17, bior1.1-bior6.8, rbio1.1-rbio6.8, dmey"
        raise ValueError(f"'{value}' is no discrete wavelet; {hint}There are: {families}")


class Bot(Method[BotOptions]):
    """Wavelet resampling, separable over layers, outputs and inputs."""

    name = "bot"
    title = "BoT: low-pass band of a wavelet transform along layers, outputs and inputs"
    reference = "arXiv:2603.07506"
    direction = "both"
    promises = ("exact-size", "deterministic", "function-preserving: grow, value, haar, identity depth")
    Options = BotOptions

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: BotOptions,
        *,
        xp: Namespace,
        seed: int,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`.

        Memory holds one layer and its resampled form where every target layer has one source layer; a filter over
        layers holds those under its taps, in their smaller form.
        """
        check_axes(task)
        if len(source) != task.layers[0]:
            raise ResampleError(
                f"stack {task.stack} ({task.name}): {len(source)} source tensors for {task.layers[0]} layers; "
                "pass one reader per source layer"
            )
        layers = layer_map(
            options.layer_axis,
            *task.layers,
            wavelet=options.wavelet,
            residual=task.residual,
            place=f"stack {task.stack} ({task.name})",
        )
        return _Resampling(task, source, options, xp, seed, layers).run()

    def axis_operator(
        self, n_source: int, n_target: int, options: BotOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """Matrix of a plain leaf axis of a matrix, gain included: see :func:`bot_onnx.resample.operator`."""
        convention = chosen_convention(options.convention, n_source, n_target)
        return axis_matrix(options.wavelet, n_source, n_target, leaf_form("matrix", direction, "free", convention))


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
        self.task, self.source, self.options, self.xp, self.seed, self.layers = task, source, options, xp, seed, layers
        self.width = WidthTransform(task, options.wavelet, options.convention, options.head_dim_correction)
        self.last_use = {layer: k for k, row in enumerate(layers.rows) for layer, _ in row}
        self.noisy = options.details != "zero" and any(grows(axis) for axis in task.axes)
        # Mix on the smaller side of the width change; a selection mixes nothing, and its copies then share one result.
        larger = prod(task.target_shape) > prod(task.source_shape)
        self.mix_first = self.noisy or (larger and not layers.is_selection)
        self.held: dict[int, Array] = {}

    def run(self) -> Iterator[Array]:
        for k, row in enumerate(self.layers.rows):
            neutral = self._neutral(k)
            yield self._layer(k, row) if neutral is None else neutral
            self._release(k)

    def _release(self, k: int) -> None:
        """Let go of the layers not needed next; a selection reads a layer again rather than hold it for later."""
        rows = self.layers.rows
        following = {layer for layer, _ in rows[k + 1]} if k + 1 < len(rows) else set()
        for layer in list(self.held):
            later = self.last_use[layer] > k and not self.layers.is_selection
            if layer not in following and not later:
                del self.held[layer]

    def _neutral(self, k: int) -> Array | None:
        """The constant tensor of a layer that must do nothing (mode ``identity``), None for all others.

        Whatever writes to the residual stream is zero in an added layer. In post-norm networks the layer's norms
        then normalise what is normalised already, and the affine map of a layer's last norm moves to the last of the
        layers added after it: exact up to the norms' epsilon.
        """
        added, task = self.layers.added, self.task
        if added[k] and task.writes_residual:
            return self._full(k, 0.0)
        if task.residual != "post-norm" or task.kind not in ("norm_scale", "norm_bias"):
            return None
        followed = k + 1 < len(added) and added[k + 1]
        moved = task.norm_position == "last" and followed
        if moved or (task.norm_position == "inner" and added[k]):
            return self._full(k, 1.0 if task.kind == "norm_scale" else 0.0)
        return None

    def _full(self, k: int, value: float) -> Array:
        dtype = working_dtype(self.source[self.layers.rows[k][0][0]](), self._place(k))
        return self.xp.full(self.task.target_shape, value, dtype=getattr(self.xp, dtype))

    def _place(self, layer: int) -> str:
        return f"stack {self.task.stack} ({self.task.name}), layer {layer}"

    def _layer(self, k: int, row: tuple[tuple[int, float], ...]) -> Array:
        rng = stream(self.seed, self.task.stack, k)
        x = self._mixed(row)
        if self.layers.filtered:
            x = self._depth_gain(x, row, rng)
        if self.mix_first:
            x = self.width.apply(x, self.xp, self._noise(x, rng))
        gain = self._tie_gain() if k == self.task.layers[1] - 1 else 1.0
        return x if gain == 1.0 else x * gain

    def _mixed(self, row: tuple[tuple[int, float], ...]) -> Array:
        """Σ_l R_L[k, l] W_l, of full or of already resampled layers."""
        total = None
        for layer, weight in row:
            x = self._read(layer)
            term = x if weight == 1.0 else x * weight
            total = term if total is None else total + term
        return total

    def _read(self, layer: int) -> Array:
        if layer in self.held:
            return self.held[layer]
        place = self._place(layer)
        raw = self.source[layer]()
        if tuple(raw.shape) != self.task.source_shape:
            raise ResampleError(
                f"{place}: shape {tuple(raw.shape)} where the plan says {self.task.source_shape}; "
                "plan again from the present file"
            )
        if self.width.is_identity and self.layers.is_selection and not is_floating(raw):
            return self.xp.asarray(raw)  # indices and masks pass through where no arithmetic is asked
        x = to_working(raw, self.xp, place)
        if not self.mix_first:
            x = self.width.apply(x, self.xp)
        self.held[layer] = x
        return x

    def _noise(self, x: Array, rng: np.random.Generator) -> Noise | None:
        if not self.noisy or self.options.details == "zero":
            return None
        return Noise(rng, self.options.details, float(self.xp.std(x)))

    def _depth_gain(self, x: Array, row: tuple[tuple[int, float], ...], rng: np.random.Generator) -> Array:
        """√rho_L under ``ortho``, and noise for the detail band of filtered layers.

        The band of an orthonormal synthesis has per target layer the squared norm 1 - rho_L Σ_l R_L[k, l]²; each layer
        draws that much from its own stream.
        """
        layers_s, layers_t = self.task.layers
        ratio = layers_s / layers_t
        gain = sqrt(ratio) if chosen_convention(self.options.convention, layers_s, layers_t) == "ortho" else 1.0
        if self.options.details != "zero" and layers_t > layers_s:
            share = sqrt(max(0.0, 1.0 - ratio * sum(weight * weight for _, weight in row)))
            noise = Noise(rng, self.options.details, float(self.xp.std(x)) * share / sqrt(ratio))
            x = x + self.xp.asarray(noise.draw(tuple(x.shape), dtype_name(x)))
        return x if gain == 1.0 else x * gain

    def _tie_gain(self) -> float:
        """rho_hidden for the last norm before a tied head: its logits sum over hidden, with weights left at e = 0."""
        if not (self.options.tie_correction and self.task.before_tied_head):
            return 1.0
        hidden = self.task.axes[-1]
        convention = chosen_convention(self.options.convention, hidden.source, hidden.target)
        return hidden.source / hidden.target if convention == "value" else 1.0

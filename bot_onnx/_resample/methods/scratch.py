"""Scratch: the initialisation that trainers of these architectures start from, at the target size.

The baseline every other method is measured against. Nothing of the source's values survives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from types import MappingProxyType

import numpy as np
from pydantic import Field

from bot_onnx._resample.amplitude import FRESH_STD, fresh_std
from bot_onnx._resample.arrays import Array, Floats, Namespace, is_floating, working_dtype
from bot_onnx._resample.axes import changes, check_axes
from bot_onnx._resample.draws import normal, stream
from bot_onnx._resample.needs import is_drawn
from bot_onnx._resample.registry import Method, MethodOptions
from bot_onnx._stack.types import StackTask
from bot_onnx.errors import ResampleError


class ScratchOptions(MethodOptions):
    """Options of method ``scratch``."""

    std: float = Field(FRESH_STD, gt=0, description="Standard deviation of matrices, embeddings and tables.")
    truncated: bool = Field(False, description="Redraw what lies beyond two standard deviations (BERT's, ViT's rule).")
    residual_scaling: bool = Field(
        True, description="Pre-norm networks: divide what writes to the residual stream by sqrt(2*layers) (GPT-2)."
    )


def _is_scaled(options: ScratchOptions, task: StackTask) -> bool:
    return is_drawn(options, task) and task.writes_residual and task.residual == "pre-norm"


class Scratch(Method[ScratchOptions]):
    """Random initialisation at the target size.

    * matrices, embeddings, position tables and class tokens: Normal(0, std²), std 0.02;
    * matrices that write to the residual stream of a pre-norm network: std / √(2·layers), two writers a layer;
    * kernels, one tap or many: Normal(0, 2 / fan_in), fan_in = input channels per group times taps (He et al. 2015);
    * biases and norm biases 0, norm scales and other scales 1.

    A tensor whose part is not known (kind ``other``) is no trained weight as far as the graph tells: it is passed
    through where its shape stays and refused where it does not. A number that every layer has of its own (a slope, a
    gate) is what layer ⌊k·L_s/L_t⌋ has: nobody can say what its trainer starts from.
    """

    name = "scratch"
    title = "random initialisation, as the architecture's trainers do it"
    reference = "GPT-2 (Radford et al. 2019); He et al., arXiv:1502.01852"
    direction = "both"
    promises = ("exact-size", "deterministic")
    Options = ScratchOptions
    needs = MappingProxyType({"std": is_drawn, "truncated": is_drawn, "residual_scaling": _is_scaled})

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: ScratchOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`. Source values are read for their dtype only."""
        check_axes(task)
        place = f"stack {task.stack} ({task.name})"
        if not source:
            raise ResampleError(f"{place}: no source tensor, so no dtype; pass at least one reader")
        numbers = prod(task.source_shape) == 1
        other_depth = len(source) != task.layers[1] and not numbers
        if task.kind == "other" and (any(changes(axis) for axis in task.axes) or other_depth):
            raise ResampleError(
                f"{place}: its part in the network is not known, so it has no initialisation at another size "
                f"({task.source_shape} x {task.layers[0]} -> {task.target_shape} x {task.layers[1]}); use method 'bot'"
            )
        return _layers(task, source, options, xp, seed, start)


METHOD = Scratch()


def _layers(
    task: StackTask,
    source: Sequence[Callable[[], Array]],
    options: ScratchOptions,
    xp: Namespace,
    seed: int,
    start: int,
) -> Iterator[Array]:
    first = source[0]()
    if task.kind == "other" or not is_floating(first):
        for layer in range(start, task.layers[1]):
            yield xp.asarray(source[layer * len(source) // task.layers[1]]())
        return
    dtype = working_dtype(first, task.name)
    for layer in range(start, task.layers[1]):
        yield xp.asarray(_initial(task, options, stream(seed, task.draws, layer), dtype))


def _initial(task: StackTask, options: ScratchOptions, rng: np.random.Generator, dtype: str) -> Floats:
    """One layer's tensor, ``task.target_shape``."""
    shape = task.target_shape
    if task.kind in ("norm_scale", "scale"):
        return np.ones(shape, dtype=dtype)
    if task.kind in ("norm_bias", "bias"):
        return np.zeros(shape, dtype=dtype)
    truncated = options.truncated and task.kind != "kernel"
    deviation = fresh_std(task, options.std, residual_scaling=options.residual_scaling)
    return _truncated(rng, shape, dtype, deviation) if truncated else normal(rng, shape, dtype, deviation)


def _truncated(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, deviation: float) -> Floats:
    """Normal draws, those beyond two deviations drawn again."""
    draws = normal(rng, shape, dtype)
    while (beyond := np.flatnonzero(np.abs(draws) > 2.0)).size:
        draws.reshape(-1)[beyond] = normal(rng, (beyond.size,), dtype)
    draws *= deviation
    return draws

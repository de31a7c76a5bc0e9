"""Random weights of the miniature, and the same weights as the grown one has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._patterns.closed_forms import recompute, shares_out
from bot_onnx._proof.duplication import Duplication
from bot_onnx._resample.mapping import Selection
from bot_onnx._structure import Stack
from bot_onnx._surgery.tasks import build_task

Array = NDArray[np.generic]

_SPREAD = 0.3  #: standard deviation of what is no matrix


def small_weights(
    analysis: Analysis, duplication: Duplication, used: set[str], *, seed: int, positive: bool = False
) -> dict[str, Array]:
    """Contents of the tensors of all stacks, by name.

    Args:
        analysis: of the graph.
        duplication: knows the sizes.
        used: names of the initializers that are read.
        seed: of the draws.
        positive: draw no negative number, for networks that take logarithms or roots of their weights.
    """
    rng = np.random.default_rng(seed)
    held = analysis.model.graph.initializers
    contents: dict[str, Array] = {}
    originals = {stack.id: stack.tensors[0] for stack in analysis.structure.stacks}
    for stack in analysis.structure.stacks:
        for name in stack.tensors:
            tensor = held[name].const_value if name in used and name in held else None
            if tensor is None:
                continue
            shape = duplication.shape(analysis.context.axes_of(held[name]))
            if stack.closed_form is not None:
                contents[name] = recompute(stack.closed_form, shape, tensor.dtype.numpy(), tensor.numpy)
            elif stack.twin_of is not None and originals[stack.twin_of] in contents:
                contents[name] = np.ascontiguousarray(contents[originals[stack.twin_of]].T)
            elif not tensor.dtype.is_floating_point() or (stack.kind == "other" and shape == stack.shape):
                if shape != tuple(tensor.shape.numpy()):
                    raise ValueError(f"table {name} has no formula")
                contents[name] = tensor.numpy()
            else:
                contents[name] = _draw(stack, shape, rng, positive)
    return contents


def _draw(stack: Stack, shape: tuple[int, ...], rng: np.random.Generator, positive: bool) -> Array:
    values = rng.standard_normal(shape, np.float32)
    if stack.positive:
        return np.abs(values) + np.float32(0.5)
    if stack.kind in ("norm_scale", "scale"):
        values = 1 + _SPREAD * values
    elif stack.kind in ("matrix", "kernel"):
        inputs = prod(size for size, way in zip(shape, stack.directions, strict=True) if way != "out")
        values *= np.float32(1.2 / np.sqrt(max(inputs, 1)))
    elif stack.kind != "embedding":
        values *= np.float32(_SPREAD)
    return (np.abs(values) if positive else values).astype(np.float32)


def _is_held(stack: Stack) -> bool:
    """Whether a table is copied as it is: nothing of it is shared out among copies of what is summed over."""
    return stack.closed_form is not None and not shares_out(stack.closed_form)


def large_weights(
    analysis: Analysis,
    duplication: Duplication,
    small: Mapping[str, Array],
    gains: Mapping[str, float],
    *,
    scored: bool,
) -> dict[str, Array]:
    """The same weights in the grown miniature.

    Args:
        analysis: of the graph.
        duplication: how it is grown.
        small: contents in the small one.
        gains: further factor per stack id.
        scored: what makes queries and keys makes up for the divisor of their scores.
    """
    structure = duplication.structure
    layers = {chain.name: chain.count for chain in structure.chains}
    contents: dict[str, Array] = {}
    originals = {stack.id: stack.tensors[0] for stack in structure.stacks}
    for stack in structure.stacks:
        names = [name for name in stack.tensors if name in small]
        if not names:
            continue
        if stack.twin_of is not None and originals[stack.twin_of] in contents:
            contents[names[0]] = np.ascontiguousarray(contents[originals[stack.twin_of]].T)
            continue
        held = _is_held(stack) or small[names[0]].dtype.kind != "f"
        meant = stack if scored else replace(stack, score_parts=())
        task = build_task(structure, meant, duplication.large, layers)
        chosen = Selection(task, duplication.leaf, split=not held)
        for name in names:
            values = chosen.apply(small[name], np)
            factor = gains.get(stack.id, 1.0)
            contents[name] = values if held else (values * factor).astype(np.float32)
    return contents

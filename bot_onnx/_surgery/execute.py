"""Carry out a plan: read stack by stack, resample, hand over tensor by tensor. The graph is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._align import align
from bot_onnx._patterns.closed_forms import compute
from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._resample.transfers import fetched
from bot_onnx._surgery.picked import picked
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.types import StackPlan
from bot_onnx.errors import PlanError

Progress = Callable[[str, int, int], None]
Read = Callable[[str], NDArray[Any]]


def produce(
    prepared: Prepared,
    options: MethodOptions,
    *,
    xp: Any,
    progress: Progress | None = None,
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield every tensor of the target, by name, in the order of the stacks.

    Args:
        prepared: the plan and the source's tensors.
        options: of the plan's method.
        xp: array namespace to compute in.
        progress: called with (stack name, bytes done, bytes in all) after each tensor.
    """
    plan = prepared.plan
    aligned = align(prepared.alignment, prepared.tensors, xp=xp)
    total = sum(slot.nbytes for slot in prepared.slots)
    done = 0
    for stack in plan.stacks:
        if stack.twin_of is not None:
            continue
        twins = [other for other in plan.stacks if other.twin_of == stack.task.stack]
        dtype = ir.DataType[stack.dtype].numpy()
        layers = resampled(stack, plan.method, plan.seed, options, aligned.read, xp)
        for name, array in zip(stack.targets, fetched(layers), strict=True):
            values = array.astype(dtype, copy=False)
            yield name, values
            done += values.nbytes
            for twin in twins:
                yield twin.targets[0], np.ascontiguousarray(values.T)
                done += values.nbytes
            if progress is not None:
                progress(stack.task.name, done, total)


def resampled(stack: StackPlan, method: str, seed: int, options: MethodOptions, read: Read, xp: Any) -> Iterator[Any]:
    """The tensors of one stack of the target, in layer order.

    Args:
        stack: what happens to it.
        method, seed, options: of the resampling.
        read: gives a tensor of the source by name.
        xp: array namespace to compute in.
    """
    if stack.closed_form is not None:
        for _ in stack.targets:
            yield compute(stack.closed_form, stack.task.target_shape, ir.DataType[stack.dtype].numpy())
        return
    readers = [partial(read, name) for name in stack.sources]
    task, chosen = picked(stack.task, readers)
    layers = get_method(method).resample(task, chosen, options, xp=xp, seed=seed)
    # Long filters have negative weights, and the square root of what they make of variances may not exist.
    least = min(float(np.min(reader())) for reader in readers) if stack.positive else None
    for array in layers:
        scaled = array if stack.gain == 1.0 else array * stack.gain
        yield scaled if least is None else xp.where(scaled < least, xp.asarray(least, dtype=scaled.dtype), scaled)


def weigh(prepared: Prepared, device: str, weights_sha256: str) -> None:
    """Take note of the weights that were made; those of a saved plan's own run must be the same on the same device."""
    plan = prepared.plan
    if plan.weights_sha256 not in (None, weights_sha256) and plan.device == device:
        raise PlanError(
            f"the weights came out otherwise ({weights_sha256[:12]}…) than in the run that made the plan "
            f"({(plan.weights_sha256 or '')[:12]}…): another processor, library or number of threads rounds otherwise; "
            "a plan of --dry-run holds no hash of them"
        )
    prepared.plan = replace(plan, weights_sha256=weights_sha256, device=device)

"""Carry out a plan: read stack by stack, resample, hand over tensor by tensor. The graph is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._align import align
from bot_onnx._patterns.closed_forms import compute
from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._resample.parallel import ahead
from bot_onnx._resample.transfers import fetched
from bot_onnx._surgery.joined import Read, cut, gathered, readers_of, task_of
from bot_onnx._surgery.picked import picked
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.types import StackPlan
from bot_onnx.errors import PlanError

Progress = Callable[[str, int, int], None]


def produce(
    prepared: Prepared,
    options: MethodOptions,
    *,
    xp: Any,
    progress: Progress | None = None,
    finished: Collection[str] = (),
) -> Generator[tuple[str, NDArray[np.generic]], None, None]:
    """Yield every tensor of the target, by name, in the order of the stacks.

    On the CPU the next one is made while one is in use; close the generator to wait for it.

    Args:
        prepared: the plan and the source's tensors.
        options: of the plan's method.
        xp: array namespace to compute in.
        progress: called with (stack name, bytes done, bytes in all) after each tensor.
        finished: names of tensors that an earlier run of this plan made: a stack's leading ones are not made again.
    """
    plan = prepared.plan
    wanted = [(members, _first_wanted(members, plan.stacks, finished)) for members in gathered(plan.stacks)]
    wanted = [(members, start) for members, start in wanted if start < len(members[0].targets)]
    if not wanted:
        return
    aligned = align(prepared.alignment, prepared.tensors, xp=xp)
    total = sum(slot.nbytes for slot in prepared.slots)
    done = sum(slot.nbytes for slot in prepared.slots if slot.name in finished)

    def made() -> Generator[tuple[StackPlan, str, Any], None, None]:
        for members, start in wanted:
            layers = resampled(members, plan.method, plan.seed, options, aligned.read, xp, plan.asked.tokens, start)
            for stack, name, array in by_name(members, layers, start):
                yield stack, name, array.astype(ir.DataType[stack.dtype].numpy(), copy=False)

    # A device works ahead by itself (transfers.py).
    with closing(ahead(made()) if xp is np else made()) as tensors:
        for stack, name, values in tensors:
            yield name, values
            done += values.nbytes
            for twin in (other for other in plan.stacks if other.twin_of == stack.task.stack):
                yield twin.targets[0], np.ascontiguousarray(values.T)
                done += values.nbytes
            if progress is not None:
                progress(stack.task.name, done, total)


def _first_wanted(members: Sequence[StackPlan], stacks: Sequence[StackPlan], finished: Collection[str]) -> int:
    """The first layer of stacks made together of which a tensor is not finished; else their number of layers."""
    if not finished:
        return 0
    made = {member.task.stack for member in members}
    if any(stack.twin_of in made and stack.targets[0] not in finished for stack in stacks):
        return 0
    rows = zip(*(member.targets for member in members), strict=True)
    return sum(1 for _ in takewhile(lambda names: all(name in finished for name in names), rows))


def by_name(
    members: Sequence[StackPlan], made: Iterator[tuple[Any, ...]], start: int = 0
) -> Iterator[tuple[StackPlan, str, Any]]:
    """What :func:`resampled` gives from a layer on, on the host, each tensor with its stack and its name."""
    named = [
        pair
        for names in zip(*(s.targets[start:] for s in members), strict=True)
        for pair in zip(members, names, strict=True)
    ]
    arrays = fetched(array for layer in made for array in layer)
    yield from ((stack, name, array) for (stack, name), array in zip(named, arrays, strict=True))


def resampled(
    members: Sequence[StackPlan],
    method: str,
    seed: int,
    options: MethodOptions,
    read: Read,
    xp: Any,
    tokens: tuple[int, ...] = (),
    start: int = 0,
) -> Iterator[tuple[Any, ...]]:
    """The tensors of the target of stacks that are made together, layer by layer: one of each stack.

    Args:
        members: what happens to them; mostly one stack alone.
        method, seed, options: of the resampling.
        read: gives a tensor of the source by name.
        xp: array namespace to compute in.
        tokens: ids of the source's tokens that stay, where they were named.
        start: the first layer that is wanted.
    """
    first = members[0]
    if first.closed_form is not None:
        for _ in first.targets[start:]:
            yield (compute(first.closed_form, first.task.target_shape, ir.DataType[first.dtype].numpy()),)
        return
    readers = readers_of(members, read)
    task, chosen = picked(task_of(members), readers, tokens)
    layers = get_method(method).resample(task, chosen, options, xp=xp, seed=seed, start=start)
    # Long filters have negative weights, and the square root of what they make of variances may not exist.
    least = min(float(np.min(reader())) for reader in readers) if first.positive else None
    for layer in layers:
        yield tuple(
            _finished(array, stack, least, xp) for array, stack in zip(cut(layer, members), members, strict=True)
        )


def _finished(array: Any, stack: StackPlan, least: float | None, xp: Any) -> Any:
    scaled = array if stack.gain == 1.0 else array * stack.gain
    return scaled if least is None else xp.where(scaled < least, xp.asarray(least, dtype=scaled.dtype), scaled)


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

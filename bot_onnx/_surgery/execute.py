"""Carry out a plan: read stack by stack, resample, hand over tensor by tensor. The graph is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._align import align
from bot_onnx._patterns.closed_forms import recompute
from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._resample.parallel import ahead
from bot_onnx._resample.transfers import fetched
from bot_onnx._surgery.joined import Read, cut, gathered, readers_of, task_of
from bot_onnx._surgery.picked import picked
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.types import Plan, StackPlan
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
    wanted = pieces(plan, finished)
    if not wanted:
        return
    aligned = align(prepared.alignment, prepared.tensors, xp=xp)
    total = sum(slot.nbytes for slot in prepared.slots)
    done = sum(slot.nbytes for slot in prepared.slots if slot.name in finished)

    def all_made() -> Generator[Made, None, None]:
        for piece in wanted:
            yield from made(piece, plan, options, aligned.read, xp)

    # A device works ahead by itself (transfers.py).
    with closing(ahead(all_made()) if xp is np else all_made()) as tensors:
        for one in tensors:
            yield one.name, one.values
            done += one.values.nbytes
            if progress is not None:
                progress(one.stack.task.name, done, total)


@dataclass(frozen=True, slots=True)
class Piece:
    """Layers of stacks that are made together: from ``start`` on, to ``stop``, which is none of them."""

    members: tuple[StackPlan, ...]
    start: int
    stop: int


class Made(NamedTuple):
    """A tensor of the target, and the stack that it is made with."""

    stack: StackPlan
    name: str
    values: NDArray[np.generic]


def pieces(plan: Plan, finished: Collection[str] = ()) -> list[Piece]:
    """What is to be made, in the order of the stacks.

    Args:
        plan: of the run. finished: see :func:`produce`.
    """
    groups = list(gathered(plan.stacks))
    found = [Piece(g, _first_wanted(g, plan.stacks, finished), len(g[0].targets)) for g in groups]
    return [piece for piece in found if piece.start < piece.stop]


def made(piece: Piece, plan: Plan, options: MethodOptions, read: Read, xp: Any) -> Iterator[Made]:
    """The tensors of a piece on the host, layer by layer, each with what is tied to it after it.

    Args:
        piece: of the plan. options: of its method.
        read: gives a tensor of the source, aligned. xp: array namespace to compute in.
    """
    members, start, stop = piece.members, piece.start, piece.stop
    layers = resampled(members, plan.method, plan.seed, options, read, xp, plan.asked.tokens, start)
    for stack, name, array in by_name(members, islice(layers, stop - start), start, stop):
        values = array.astype(ir.DataType[stack.dtype].numpy(), copy=False)
        yield Made(stack, name, values)
        for twin in (other for other in plan.stacks if other.twin_of == stack.task.stack):
            yield Made(stack, twin.targets[0], np.ascontiguousarray(values.T))


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
    members: Sequence[StackPlan], layers: Iterator[tuple[Any, ...]], start: int = 0, stop: int | None = None
) -> Iterator[tuple[StackPlan, str, Any]]:
    """What :func:`resampled` gives of some layers, on the host, each tensor with its stack and its name."""
    named = [
        pair
        for names in zip(*(s.targets[start:stop] for s in members), strict=True)
        for pair in zip(members, names, strict=True)
    ]
    arrays = fetched(array for layer in layers for array in layer)
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
        dtype = ir.DataType[first.dtype].numpy()
        for layer in range(start, len(first.targets)):  # where layers come or go, all hold the same
            held = partial(read, first.sources[min(layer, len(first.sources) - 1)])
            yield (recompute(first.closed_form, first.task.target_shape, dtype, held),)
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

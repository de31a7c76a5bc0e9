"""Queries, keys and values that a file keeps apart, as the one matrix that a method takes them for.

Side by side along their outputs they are what a fused projection is, so the method is given the work order that such a
file would have given it, and its results are cut apart again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._surgery.types import StackPlan

Read = Callable[[str], NDArray[Any]]
T = TypeVar("T")


def with_joints(plans: Sequence[StackPlan], threes: Iterable[tuple[str, ...]]) -> list[StackPlan]:
    """The plans, with a note in those of queries, keys and values that are made together.

    Args:
        plans: of all stacks.
        threes: ids of the stacks of queries, keys and values; those whose sizes differ are left apart.
    """
    known = {plan.task.stack: plan for plan in plans}
    joints: dict[str, tuple[str, ...]] = {}
    for three in threes:
        members = [known[identity] for identity in three if identity in known]
        alike = {(p.task.source_shape, p.task.target_shape, p.task.layers, p.dtype, p.task.picks) for p in members}
        if len(members) == len(three) and len(alike) == 1 and all(p.closed_form is None for p in members):
            joints.update(dict.fromkeys(three, three))
    return [replace(plan, joint=joints.get(plan.task.stack, ())) for plan in plans]


def gathered(plans: Sequence[StackPlan]) -> Iterator[tuple[StackPlan, ...]]:
    """The plans that are made together, at the place of the first of them; those of twins are left out."""
    known = {plan.task.stack: plan for plan in plans}
    for plan in plans:
        if plan.twin_of is None and plan.joint[:1] in ((), (plan.task.stack,)):
            yield tuple(known[identity] for identity in plan.joint) or (plan,)


def task_of(members: Sequence[StackPlan]) -> StackTask:
    """The work order of plans that are made together: their outputs side by side."""
    first = members[0].task
    if len(members) == 1:
        return first
    place = _outputs(first)
    parts = tuple(member.task.axes[place] for member in members)
    whole = Axis("concat", sum(part.source for part in parts), sum(part.target for part in parts), parts=parts)
    return replace(first, axes=(*first.axes[:place], whole, *first.axes[place + 1 :]))


def readers_of(members: Sequence[StackPlan], read: Read) -> list[Callable[[], NDArray[Any]]]:
    """What gives a layer of the source of plans that are made together.

    Args:
        members: the plans.
        read: gives a tensor of the source by name.
    """
    place = _outputs(members[0].task) if len(members) > 1 else 0

    def reader(names: tuple[str, ...]) -> Callable[[], NDArray[Any]]:
        if len(names) == 1:
            return lambda: read(names[0])
        return lambda: np.concatenate([read(name) for name in names], axis=place)

    return [reader(names) for names in zip(*(member.sources for member in members), strict=True)]


def cut(array: Any, members: Sequence[StackPlan]) -> Iterator[Any]:
    """The parts of a layer of the target that belong to each of the plans."""
    if len(members) == 1:
        yield array
        return
    place, start = _outputs(members[0].task), 0
    for member in members:
        end = start + member.task.axes[place].target
        yield array[(*(slice(None),) * place, slice(start, end))]
        start = end


def told(plans: Sequence[StackPlan]) -> tuple[str, ...]:
    """A sentence on matrices that are made together; none where there are none."""
    count = sum(len(members) > 1 and members[0].task.kind == "matrix" for members in gathered(plans))
    if not count:
        return ()
    places = f"{count} stacks" if count > 1 else "a stack"
    return (f"Queries, keys and values, kept apart in {places} each, are resampled as one matrix.",)


def _outputs(task: StackTask) -> int:
    return task.directions.index("out")
